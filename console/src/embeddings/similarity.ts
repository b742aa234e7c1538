/** Vectors compared by the cosine of their angle. */

export function cosine(one: readonly number[], other: readonly number[]): number {
  let dot = 0;
  let ones = 0;
  let others = 0;
  for (let at = 0; at < one.length; at++) {
    const a = one[at]!;
    const b = other[at]!;
    dot += a * b;
    ones += a * a;
    others += b * b;
  }
  const lengths = Math.sqrt(ones * others);
  return lengths > 0 ? dot / lengths : 0;
}

export function matrixOf(vectors: readonly (readonly number[])[]): number[][] {
  return vectors.map((one) => vectors.map((other) => cosine(one, other)));
}

export interface Neighbour {
  place: number;
  similarity: number;
}

/** For each row the most similar other one; null for a row that is alone. */
export function neighboursOf(matrix: readonly (readonly number[])[]): (Neighbour | null)[] {
  return matrix.map((row, at) => {
    const others = row
      .map((similarity, place) => ({ place, similarity }))
      .filter(({ place }) => place !== at);
    return others.reduce<Neighbour | null>(
      (best, one) => (best === null || one.similarity > best.similarity ? one : best),
      null,
    );
  });
}

export function linesOf(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
}
