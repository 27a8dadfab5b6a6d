/** Works on a store, and is killed at a step. */
import { takeEpochs } from './store-work.ts';

const [, , root = '', until = ''] = process.argv;
await takeEpochs(root, (step) => {
  if (step === until) process.kill(process.pid, 'SIGKILL');
});
