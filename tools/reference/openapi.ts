/** The operator's API as an OpenAPI document, made from protocol/operator.ts. */
import swagger from '@fastify/swagger';
import Fastify from 'fastify';
import {
  createJsonSchemaTransform,
  createJsonSchemaTransformObject,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from 'fastify-type-provider-zod';
import type * as z from 'zod';
import { OPERATIONS } from '../../proxy/protocol/operator.ts';

/** The version of the API: that of its paths, /v1. */
const VERSION = '1';

const ZOD_TO_JSON_CONFIG = {
  override({ zodSchema, jsonSchema }: { zodSchema: z.core.$ZodType; jsonSchema: object }) {
    const { def } = zodSchema._zod;
    // Answers may get more fields; only requests refuse those they do not know.
    if (def.type === 'object' && !('catchall' in def)) {
      Reflect.deleteProperty(jsonSchema, 'additionalProperties');
    }
    Reflect.deleteProperty(jsonSchema, 'readOnly'); // of arrays, and a matter of TypeScript only
  },
};

/** Returns the text of proxy/protocol/openapi.json. */
export async function openApi(): Promise<string> {
  const app = Fastify().withTypeProvider<ZodTypeProvider>();
  app.setValidatorCompiler(validatorCompiler).setSerializerCompiler(serializerCompiler);
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Umbra',
        version: VERSION,
        description:
          'The API of a cluster’s daemon, on the unix socket api.sock in the cluster’s folder. ' +
          'Fields may be added to answers at any time.',
      },
    },
    transform: createJsonSchemaTransform({ zodToJsonConfig: ZOD_TO_JSON_CONFIG }),
    transformObject: createJsonSchemaTransformObject({ zodToJsonConfig: ZOD_TO_JSON_CONFIG }),
  });
  for (const [operationId, { method, url, schema }] of Object.entries(OPERATIONS)) {
    app.route({ method, url, schema: { ...schema, operationId }, handler: () => {} });
  }
  await app.ready();
  const document = app.swagger();
  await app.close();
  const { schemas = {} } = ('components' in document && document.components) || {};
  // Each schema was made twice, for requests and for answers; requests use none of them.
  const used = Object.entries<object>(schemas).filter(([name]) => !name.endsWith('Input'));
  const components = { schemas: Object.fromEntries(used) };
  return `${JSON.stringify({ ...document, components }, undefined, 2)}\n`;
}
