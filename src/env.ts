/** Environment variables. Said without Node's types, which whoever uses the library need not have. */
export type Env = Readonly<Record<string, string | undefined>>;
