import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UmbraError } from '../../../proxy/failure/failure.ts';
import { explained } from '../../../tools/cli/explain.ts';

const test = suite('umbra explain');
const namesOf = (wanted: string | undefined) =>
  explained(wanted).map(({ name, options }) => [name, options.map(({ option }) => option)]);

test('a policy has all of its options, an option itself', () => {
  assert.equal(namesOf('restore.clock'), [['restore', ['restore.clock']]]);
  assert.ok(namesOf('restore')[0]?.[1]?.includes('restore.clock'));
  assert.ok(namesOf(undefined).length > 5);
});

test('another name is refused; a value of an option is none', () => {
  for (const wanted of ['clock', 'restore.', 'parallel', '']) {
    assert.throws(
      () => explained(wanted),
      (error: unknown) => error instanceof UmbraError && error.code === 'E_POLICY_UNKNOWN',
    );
  }
});

test.run();
