/** The failure that work is expected to end with. */
import { type Failure, UmbraError } from '../../proxy/failure/failure.ts';

/** Resolves with the failure of an UmbraError. @throws Error if the work ends in any other way */
export async function failureOf(work: Promise<unknown>): Promise<Failure> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof UmbraError) return error.failure;
  throw new Error(`no UmbraError: ${String(error)}`);
}
