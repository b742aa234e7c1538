/** Files that a reader attaches: their texts, or why they cannot be sent. */
import { bytes, t } from "../i18n";
import type { FileText } from "./conversation";

// Below the body limit of the server, with room for the conversation.
const MOST_FILE_BYTES = 512 * 1024;
// An SVG is text.
const MEDIA = /^(image\/(?!svg)|audio\/|video\/)/;

/** The texts of the files, and a sentence about each one that is left out. */
export async function readTexts(files: Iterable<File>): Promise<[FileText[], string[]]> {
  const read = await Promise.all([...files].map(readText));
  const faults = read.filter((found): found is string => typeof found === "string");
  return [read.filter((found): found is FileText => typeof found !== "string"), faults];
}

async function readText(file: File): Promise<FileText | string> {
  const name = file.name;
  if (MEDIA.test(file.type)) return t("chat.attachMedia", { name });
  if (file.size > MOST_FILE_BYTES) return t("chat.attachTooLarge", { name, size: bytes(MOST_FILE_BYTES) });
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    if (!text.includes("\0")) return { name, text };
  } catch {
    // Not UTF-8: told below, like a text with NUL.
  }
  return t("chat.attachNotText", { name });
}
