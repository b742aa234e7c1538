/** The conversations of this browser, kept in IndexedDB. */
import type { Conversation } from "./conversation";

export const MOST = 200;
const MOST_CHARACTERS = 20_000_000;
const NAME = "y26hkx";
const TABLE = "conversations";

/** The conversations that go so that the rest stays within bounds: the oldest, never the newest. */
export function surplus(
  all: readonly Conversation[],
  most = MOST,
  mostCharacters = MOST_CHARACTERS,
): string[] {
  const newestFirst = [...all].sort((one, other) => other.changedAt - one.changedAt);
  let characters = 0;
  return newestFirst
    .filter((conversation, place) => {
      characters += JSON.stringify(conversation).length;
      return place > 0 && (place >= most || characters > mostCharacters);
    })
    .map((conversation) => conversation.id);
}

export interface Store {
  /** Whether anything outlives the page. */
  readonly keeps: boolean;
  all(): Promise<Conversation[]>;
  put(conversation: Conversation): Promise<void>;
  remove(ids: readonly string[]): Promise<void>;
}

/** The browser's store, or one that keeps nothing if the browser has or allows none. */
export async function openStore(): Promise<Store> {
  try {
    return new IndexedStore(await opened());
  } catch {
    return NO_STORE;
  }
}

const NO_STORE: Store = {
  keeps: false,
  all: () => Promise.resolve([]),
  put: () => Promise.resolve(),
  remove: () => Promise.resolve(),
};

class IndexedStore implements Store {
  readonly keeps = true;

  constructor(private readonly database: IDBDatabase) {}

  all(): Promise<Conversation[]> {
    return settled(this.table("readonly").getAll() as IDBRequest<Conversation[]>);
  }

  async put(conversation: Conversation): Promise<void> {
    const table = this.table("readwrite");
    table.put(conversation);
    await committed(table.transaction);
  }

  async remove(ids: readonly string[]): Promise<void> {
    const table = this.table("readwrite");
    for (const id of ids) table.delete(id);
    await committed(table.transaction);
  }

  private table(mode: IDBTransactionMode): IDBObjectStore {
    return this.database.transaction(TABLE, mode).objectStore(TABLE);
  }
}

function opened(): Promise<IDBDatabase> {
  const opening = indexedDB.open(NAME, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(TABLE, { keyPath: "id" });
  return settled(opening);
}

/** Until then a page that is left takes its changes with it. */
function committed(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error("the store failed"));
  });
}

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("the store failed"));
  });
}
