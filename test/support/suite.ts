/**
 * uvu's suites, with `before` hooks that say why they fail. uvu itself drops the error: it runs no
 * test of the suite and prints `(0 / 7)`.
 */
import { suite as bare, type Callback, type Test } from 'uvu';

export function suite(name: string): Test {
  const made = bare(name);
  const add = made.before;
  const before = (hook: Callback) => add(told(name, hook));
  made.before = Object.assign(before, { each: add.each });
  return made;
}

/** Returns a hook that prints its error before uvu drops it. */
function told(name: string, hook: Callback): Callback {
  return async (context) => {
    try {
      await hook(context);
    } catch (error) {
      const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
      process.stdout.write(`\n  FAIL ${name}: its before hook failed, no test is run\n${why}\n`);
      throw error;
    }
  };
}
