import { describe, expect, test } from "vitest";

import {
  branchTo,
  leafBelow,
  type Message,
  newConversation,
  openCalls,
  shownBranch,
  siblings,
  titleOf,
  withChange,
  withMessage,
} from "../../src/chat/conversation";
import { surplus } from "../../src/chat/store";

function message(id: string, parent: string | null, more: Partial<Message> = {}): Message {
  return { id, parent, role: "user", text: id, ...more };
}

function tree() {
  const messages = [
    message("q1", null),
    message("a1", "q1", { role: "assistant" }),
    message("q2", "a1"),
    message("a2", "q2", { role: "assistant" }),
    message("q2b", "a1"),
    message("a2b", "q2b", { role: "assistant" }),
  ];
  return messages.reduce(withMessage, newConversation());
}

describe("a conversation", () => {
  test("shows the branch that ends with its last message", () => {
    expect(shownBranch(tree()).map(({ id }) => id)).toEqual(["q1", "a1", "q2b", "a2b"]);
  });

  test("is named after its first message, in one short line", () => {
    expect(tree().title).toBe("q1");
    expect(titleOf(`${"x".repeat(80)}\nmore`)).toBe(`${"x".repeat(60)}…`);
  });

  test("knows the other answers to a message, and where their branches end", () => {
    const found = tree();
    const others = siblings(found, found.messages.q2!);
    expect(others.map(({ id }) => id)).toEqual(["q2", "q2b"]);
    expect(leafBelow(found, others[0]!)).toBe("a2");
    expect(leafBelow(found, found.messages.a1!)).toBe("a2b");
  });

  test("ends in a store that was broken, too", () => {
    const broken = tree();
    broken.messages.q1!.parent = "a2b";
    expect(branchTo(broken, "a2b").length).toBeLessThanOrEqual(7);
    expect(branchTo(broken, "nowhere")).toEqual([]);
    expect(withChange(broken, "nowhere", { text: "x" })).toBe(broken);
  });

  test("asks for the results of the last calls only, and for each once", () => {
    const calls = [
      { id: "1", name: "one", arguments: "{}" },
      { id: "2", name: "two", arguments: "{}" },
    ];
    const answer = message("a", "q", { role: "assistant", calls });
    const result = message("r", "a", { role: "tool", call: { id: "1", name: "one" } });
    expect(openCalls([message("q", null), answer])).toEqual(calls);
    expect(openCalls([answer, result]).map(({ id }) => id)).toEqual(["2"]);
    expect(openCalls([message("q", null)])).toEqual([]);
  });
});

describe("the store", () => {
  const all = [1, 2, 3, 4].map((changedAt) => ({ ...tree(), id: String(changedAt), changedAt }));

  test("lets the oldest conversations go first", () => {
    expect(surplus(all, 2)).toEqual(["2", "1"]);
    expect(surplus(all, 4)).toEqual([]);
  });

  test("is bounded by characters too, and never drops the newest", () => {
    const one = JSON.stringify(all[0]).length;
    expect(surplus(all, 9, one * 2.5)).toEqual(["2", "1"]);
    expect(surplus(all, 9, 1)).toEqual(["3", "2", "1"]);
  });
});
