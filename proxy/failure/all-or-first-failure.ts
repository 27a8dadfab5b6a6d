/** Resolves as Promise.all does, but rejects only when none of the work is still under way. */
export async function allOrFirstFailure<T>(work: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(work);
  return Promise.all(work);
}
