// The schemas of the OpenAPI document, and what is held to them.

import assert from 'node:assert/strict';
import Ajv from 'ajv/dist/2020.js';
import { at } from './support.mjs';

export class Schemas {
  #document;
  #ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });

  constructor(document) {
    this.#document = document;
    this.#ajv.addSchema(document, 'openapi.json');
  }

  // The part that a reference stands for.
  resolved(part) {
    return part?.$ref ? at(this.#document, part.$ref) : part;
  }

  // Asserts that the operation takes a body like this one.
  isTaken({ path, method, type, body }, where) {
    this.#isOf(`#/paths/${escaped(path)}/${method}/requestBody/content/${escaped(type)}/schema`, body, where);
  }

  // Asserts that an answer (status, headers, text) is one that the operation names: its status, type, body and headers.
  isAnswer({ path, method }, { status, headers: its, text }, where) {
    const described = this.#document.paths[path][method].responses[status];
    assert.ok(described, `the status is not named; ${where}`);
    const { content, headers } = this.resolved(described);
    const type = its['content-type']?.split(';')[0];
    if (text === '') assert.equal(type, undefined, where);
    else {
      const response = described.$ref ?? `#/paths/${escaped(path)}/${method}/responses/${status}`;
      assert.ok(content?.[type], `the type is not named; ${where}`);
      this.#isOf(`${response}/content/${escaped(type)}/schema`, type.endsWith('json') ? JSON.parse(text) : text, where);
    }
    for (const [name, header] of Object.entries(headers ?? {})) {
      const { required, schema } = this.resolved(header);
      const value = its[name.toLowerCase()];
      assert.ok(value !== undefined || !required, `${name} is missing; ${where}`);
      if (value !== undefined) assert.ok(this.#ajv.validate(schema, value), `${name}: ${this.#ajv.errorsText()}; ${where}`);
    }
  }

  #isOf(pointer, value, where) {
    const validate = this.#ajv.getSchema(`openapi.json${pointer}`);
    assert.ok(validate(value), `${this.#ajv.errorsText(validate.errors)}; ${where}`);
  }
}

function escaped(name) {
  return encodeURIComponent(name.replaceAll('~', '~0').replaceAll('/', '~1'));
}
