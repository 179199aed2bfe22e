// What NestJS's cache writes, by its own code: keys given to the cache manager, and CacheInterceptor on HTTP requests.
import 'reflect-metadata'
import { Controller, Get, Module, UseInterceptors, Param } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { CACHE_MANAGER, CacheInterceptor, CacheModule } from '@nestjs/cache-manager'
import { createKeyv, default as KeyvRedis } from '@keyv/redis'
import { Keyv } from 'keyv'

const url = process.env.CACHE_URL
let calls = 0

function apply(target, key, ...decorators) {
  const descriptor = Object.getOwnPropertyDescriptor(target.prototype, key)
  for (const d of decorators) d(target.prototype, key, descriptor)
}

class Products {
  one(id) { return { id, calls: ++calls } }
  list() { return { calls: ++calls } }
}
Param('id')(Products.prototype, 'one', 0)
apply(Products, 'one', Get(':id'))
apply(Products, 'list', Get())
Controller('products')(Products)
UseInterceptors(CacheInterceptor)(Products)

class App {}
Module({
  imports: [CacheModule.register({ ttl: 600_000, stores: [createKeyv({ url }, { namespace: 'shop' })] })],
  controllers: [Products],
})(App)

const app = await NestFactory.create(App, { logger: false })
await app.listen(0, '127.0.0.1')
const base = await app.getUrl()
const cache = app.get(CACHE_MANAGER)
const read = async path => (await (await fetch(base + path)).json()).calls

// Commands on standard input, one answer each on standard output.
const doing = {
  async fill() {
    await cache.set('product:7', 'v'); await cache.set('product:8', 'v')
    await read('/products/7'); await read('/products?page=2')
    const twice = new Keyv({ store: new KeyvRedis(url) })
    await twice.set('product:7', 'v')
    await twice.disconnect()
  },
  async hits() {
    const out = []
    for (const key of ['product:7', 'product:8']) if (await cache.get(key)) out.push(key)
    for (const path of ['/products/7', '/products?page=2']) { const before = calls; await read(path); if (calls === before) out.push(path) }
    return out
  },
}
import { createInterface } from 'node:readline'
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await doing[line]() ?? null))
}
await app.close()
process.exit(0)
