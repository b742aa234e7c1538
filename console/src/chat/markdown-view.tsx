/** A model's text on the page. */
import { memo } from "preact/compat";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";

import { language } from "../i18n";
import { CopyButton } from "../shell/controls";
import { blocksOf, elementsOf, isCode } from "./markdown";

export function Markdown({ text }: { text: string }) {
  const blocks = useMemo(() => blocksOf(text), [text, language.value]);
  return (
    <div class="markdown">
      {blocks.map((token, place) =>
        isCode(token) ? (
          <CodeBlock key={place} text={token.text} name={token.lang ?? ""} />
        ) : (
          <Block key={place} raw={token.raw} token={token} />
        ),
      )}
    </div>
  );
}

interface BlockProps {
  raw: string;
  token: Parameters<typeof elementsOf>[0];
}

const Block = memo(
  function Block({ token }: BlockProps) {
    const place = useRef<HTMLDivElement>(null);
    useLayoutEffect(() => place.current?.replaceChildren(elementsOf(token)), [token]);
    return <div ref={place} />;
  },
  (before: BlockProps, after: BlockProps) => before.raw === after.raw,
);

export function CodeBlock({ text, name }: { text: string; name: string }) {
  return (
    <div class="code">
      <div class="code-head">
        <span>{name}</span>
        <CopyButton text={text} />
      </div>
      {/* Long lines are scrolled, also from the keyboard. */}
      <pre tabIndex={0} aria-label={name || "code"}>
        <code>{text}</code>
      </pre>
    </div>
  );
}
