/** An OpenAPI document as a list of operations with flat fields, as far as a reader needs it. */

export interface Schema {
  $ref?: string;
  type?: string | string[];
  description?: string;
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  items?: Schema;
  anyOf?: Schema[];
  oneOf?: Schema[];
  properties?: Record<string, Schema>;
  required?: string[];
  minimum?: number;
  maximum?: number;
  maxLength?: number;
  maxItems?: number;
}

const ANY = "any";

interface Content {
  content?: Record<string, { schema?: Schema }>;
}

export interface Document {
  info: { title: string; version: string; description?: string };
  paths: Record<string, Record<string, RawOperation>>;
  components?: { schemas?: Record<string, Schema> };
}

interface RawOperation {
  summary?: string;
  description?: string;
  requestBody?: Content;
  responses?: Record<string, Content & { description?: string }>;
}

export interface Field {
  name: string;
  type: string;
  about: string;
  isRequired: boolean;
}

export interface Operation {
  method: string;
  path: string;
  about: string;
  hasBody: boolean;
  fields: Field[];
  answers: { status: string; about: string; types: string[] }[];
}

export function operationsOf(document: Document): Operation[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, raw]) => {
      const body = raw.requestBody?.content?.["application/json"]?.schema;
      return {
        method: method.toUpperCase(),
        path,
        about: raw.description ?? raw.summary ?? "",
        hasBody: body !== undefined,
        fields: body ? fieldsOf(body, document) : [],
        answers: Object.entries(raw.responses ?? {}).map(([status, answer]) => ({
          status,
          about: answer.description ?? "",
          types: Object.keys(answer.content ?? {}),
        })),
      };
    }),
  );
}

function fieldsOf(schema: Schema, document: Document): Field[] {
  const body = resolved(schema, document);
  const fields = Object.entries(body.properties ?? {}).map(([name, field]) => ({
    name,
    type: typeOf(field),
    about: [field.description, limitsOf(field)].filter(Boolean).join(" "),
    isRequired: body.required?.includes(name) ?? false,
  }));
  return fields.sort((one, other) => rank(one) - rank(other) || (one.name < other.name ? -1 : 1));
}

/** What a request needs comes first, and last what has no effect here: fields of any type. */
function rank(field: Field): number {
  return field.isRequired ? 0 : field.type === ANY ? 2 : 1;
}

function resolved(schema: Schema, document: Document): Schema {
  const name = schema.$ref?.split("/").at(-1);
  return (name && document.components?.schemas?.[name]) || schema;
}

/** The type in words: `string or array of integer`, or the name of a schema. */
export function typeOf(schema: Schema): string {
  if (schema.$ref) return schema.$ref.split("/").at(-1) ?? "";
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) {
    const named = choices.filter((one) => one.type !== "null").map(typeOf);
    return [...new Set(named)].join(" or ");
  }
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" or ");
  if (schema.type === "array") return `array of ${schema.items ? typeOf(schema.items) : ANY}`;
  const type = Array.isArray(schema.type) ? schema.type.filter((one) => one !== "null") : [schema.type];
  return type.join(" or ") || ANY;
}

function limitsOf(schema: Schema): string {
  const one = schema.anyOf?.find((choice) => choice.type !== "null") ?? schema;
  const { minimum, maximum, maxLength, maxItems } = one;
  const range = minimum !== undefined || maximum !== undefined ? `${minimum ?? ""}…${maximum ?? ""}` : "";
  const size = maxLength ?? maxItems;
  return [range, size !== undefined ? `≤ ${size}` : ""].filter(Boolean).join(", ");
}
