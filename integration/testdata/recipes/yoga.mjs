// What GraphQL Yoga's response cache keeps, by its own code: responses by query, with sets of them by entity.
import { createInterface } from 'node:readline'
import { createSchema, createYoga } from 'graphql-yoga'
import { useResponseCache } from '@graphql-yoga/plugin-response-cache'
import { createRedisCache } from '@envelop/response-cache-redis'
import { Redis } from 'ioredis'

let calls = 0
const redis = new Redis(process.env.CACHE_URL)
const cache = createRedisCache({ redis })
const yoga = createYoga({
  schema: createSchema({
    typeDefs: 'type Product { id: ID! name: String } type Query { product(id: ID!): Product products: [Product!]! }',
    resolvers: { Query: {
      product: (_, { id }) => { calls++; return { id, name: 'n' } },
      products: () => { calls++; return [{ id: '7', name: 'n' }, { id: '8', name: 'n' }] },
    } },
  }),
  plugins: [useResponseCache({ session: () => null, cache, ttl: 600_000 })],
})
const queries = { seven: '{ product(id: "7") { id name } }', eight: '{ product(id: "8") { id name } }', all: '{ products { id name } }' }
const ask = async query => {
  const response = await yoga.fetch('http://localhost/graphql', {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ query }),
  })
  await response.text()
}

const doing = {
  async fill() { for (const q of Object.values(queries)) await ask(q) },
  async hits() {
    const out = []
    for (const [name, q] of Object.entries(queries)) { const before = calls; await ask(q); if (calls === before) out.push(name) }
    return out
  },
}
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await doing[line]() ?? null))
}
process.exit(0)
