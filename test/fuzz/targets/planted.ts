/** Target with a fault behind four conditions: only coverage shows that one of them was met. */
import type { Target } from '../target.ts';

export const target: Target = {
  covers: ['test/fuzz/targets/planted.ts'],
  inputBytesMax: 40,
  check(input) {
    if (input[0] !== 0x10) return 'the first door is shut';
    if (input[1] !== 0x20) return 'the second door is shut';
    if (input[2] !== 0x7e) return 'the third door is shut';
    if (input[3] !== 0x40) return 'the fourth door is shut';
    throw new Error('found');
  },
};
