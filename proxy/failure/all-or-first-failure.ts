/** Like Promise.all, but a failure is told only when nothing goes on behind its back any more. */
export async function allOrFirstFailure<T>(work: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(work);
  return Promise.all(work);
}
