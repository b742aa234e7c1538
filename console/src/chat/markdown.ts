/**
 * A model's text as elements that can do nothing.
 *
 * HTML in the text is shown as text, images become links, and what is left goes through DOMPurify
 * with a short list of elements and attributes. The page's policy would refuse the rest.
 */
import DOMPurify from "dompurify";
import { Marked, type Token, type Tokens } from "marked";

import { t } from "../i18n";

const TAGS = [
  ...["p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote"],
  ...["pre", "code", "em", "strong", "del", "a"],
  ...["table", "thead", "tbody", "tr", "th", "td"],
];
const ATTRIBUTES = ["href", "title", "align", "start"];
const LINKS = /^(?:https?:|mailto:)/i;

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => escape(text),
    image: ({ href, text }) => {
      const shown = escape(`[${t("chat.image", { alt: text || href })}]`);
      return `<a href="${escape(href)}">${shown}</a>`;
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    // Without the class that marked adds: the language is shown by the page itself.
    code: ({ text }) => `<pre><code>${escape(text)}</code></pre>`,
  },
});

/** The blocks of a text. While an answer grows, only its last block changes. */
export function blocksOf(text: string): Token[] {
  try {
    return marked.lexer(text).filter((token) => token.type !== "space");
  } catch {
    // The parser gives up on some made-up texts, which are shown as they are.
    return [{ type: "code", raw: text, text } satisfies Tokens.Code];
  }
}

export function isCode(token: Token): token is Tokens.Code {
  return token.type === "code";
}

export function elementsOf(token: Token): DocumentFragment {
  const fragment = DOMPurify.sanitize(marked.parser([token]), {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOWED_URI_REGEXP: LINKS,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  return fragment;
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
