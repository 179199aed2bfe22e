import { createKeyv } from '@keyv/redis'
import { Cache, createCache } from 'cache-manager'
import { Redis } from 'iovalkey'
import { Keyv } from 'keyv'
import { field, inRollout } from './rollout.js'
import { settings } from './settings.js'

/**
 * All access to caches is in this file. Which class is used is the setting `cache`:
 *
 *   none      no cache at all
 *   ttl       entries live until their time is over
 *   deletes   the admin path also deletes after COMMIT, with retries, and tells all instances by Pub/Sub
 *   walpurge  the admin path does nothing; walpurge purges
 */
export interface Caches {
  /** product returns the details of products, and fetches those that are not cached. */
  products(merchant: number, ids: number[], fetch: (missing: number[]) => Promise<Product[]>): Promise<Product[]>
  /** listing returns which products are on a page of a listing. */
  listing(merchant: number, category: number, page: number, fetch: () => Promise<ListingPage>): Promise<ListingPage>
  merchant(id: number, fetch: () => Promise<Merchant>): Promise<Merchant>
  /** atEdge are the headers with which the CDN keeps a listing. */
  atEdge(merchant: number, category: number): Record<string, string>
  /** changed is called by the admin path after COMMIT. */
  changed(change: Change): Promise<void>
  close(): Promise<void>
}

export interface Product {
  id: number; merchant_id: number; category_id: number; title: string; description: string
  price_cents: number; stock: number; status: string; version: number
}
export interface ListingPage { ids: number[]; version: number }
export interface Merchant { id: number; name: string; version: number }

/** Change says what the admin path has changed: a product, before and after, or the name of a merchant. */
export interface Change {
  product?: { id: number; before: Place; after: Place }
  merchant?: number
}
export interface Place { merchant_id: number; category_id: number; rank: number; status: string }

const pages = [1, 2]

/** NoCache is for comparison. */
export class NoCache implements Caches {
  products(_: number, ids: number[], fetch: (missing: number[]) => Promise<Product[]>): Promise<Product[]> { return fetch(ids) }
  listing(_merchant: number, _category: number, _page: number, fetch: () => Promise<ListingPage>): Promise<ListingPage> { return fetch() }
  merchant(_: number, fetch: () => Promise<Merchant>): Promise<Merchant> { return fetch() }
  atEdge(): Record<string, string> { return { 'Cache-Control': 'no-store' } }
  async changed(): Promise<void> {}
  async close(): Promise<void> {}
}

/** TtlCache keeps what it has until its time is over. */
export class TtlCache implements Caches {
  protected readonly valkey = new Redis(settings.valkeyUrl, { connectionName: 'storefront', maxRetriesPerRequest: 2 })
  private readonly subscriber = new Redis(settings.valkeyUrl, { connectionName: 'storefront' })
  private readonly store = createKeyv(settings.valkeyUrl, { namespace: 'storefront' })
  private readonly memory = new Keyv({ ttl: settings.memoryTtl })
  /** Listings are in Valkey; names of merchants are in the memory of the instance, too. */
  private readonly listings: Cache = createCache({ stores: [this.store] })

  constructor() {
    // Instances listen to this channel, and drop from their memory what a message names.
    void this.subscriber.subscribe('invalidations')
    this.subscriber.on('message', (_channel, message) => void this.forget(message))
    // What was published while the connection was down is lost.
    this.subscriber.on('close', () => void this.memory.clear())
  }

  async products(merchant: number, ids: number[], fetch: (missing: number[]) => Promise<Product[]>): Promise<Product[]> {
    if (ids.length === 0) return []
    const key = productsKey(merchant)
    const now = Date.now()
    const found = new Map<number, Product>()
    const texts = await this.valkey.hmget(key, ...ids.map(String))
    for (const text of texts) {
      if (text === null) continue
      const entry = JSON.parse(text) as { until: number; product: Product }
      if (entry.until > now) found.set(entry.product.id, entry.product)
    }
    const missing = ids.filter(id => !found.has(id))
    if (missing.length > 0) {
      const fetched = await fetch(missing)
      for (const product of fetched) found.set(product.id, product)
      // Valkey 8 has no lifetime for a field, so it is in the value.
      const fields = fetched.flatMap(product => {
        const lasting = this.lifetime(settings.productTtl, field(key, String(product.id)))
        return [String(product.id), JSON.stringify({ until: Date.now() + lasting, product })]
      })
      if (fields.length > 0) await this.valkey.hset(key, ...fields)
    }
    return ids.flatMap(id => found.get(id) ?? [])
  }

  listing(merchant: number, category: number, page: number, fetch: () => Promise<ListingPage>): Promise<ListingPage> {
    const key = listingKey(merchant, category, page)
    const ttl = this.lifetime(category === 0 ? settings.listingTtl : settings.categoryTtl, inValkey(key))
    return this.listings.wrap(key, fetch, ttl)
  }

  async merchant(id: number, fetch: () => Promise<Merchant>): Promise<Merchant> {
    const key = merchantKey(id)
    const known = await this.memory.get<Merchant>(key)
    if (known !== undefined) return known
    const merchant = await this.listings.wrap(key, fetch, this.lifetime(settings.productTtl, inValkey(key)))
    await this.memory.set(key, merchant)
    return merchant
  }

  atEdge(merchant: number, category: number): Record<string, string> {
    const tags = [`merchant-${merchant}`, listingTag(merchant, category)]
    const seconds = category === 0 ? settings.edgeListingTtl : settings.edgeCategoryTtl
    const lasting = this.lifetimeAtEdge(seconds, ...tags)
    return { 'Cache-Control': `public, max-age=0, s-maxage=${lasting}, stale-while-revalidate=${lasting}`, 'Cache-Tag': tags.join(',') }
  }

  async changed(_: Change): Promise<void> {}

  async close(): Promise<void> {
    this.valkey.disconnect()
    this.subscriber.disconnect()
    await this.listings.disconnect()
  }

  /** lifetime is how long an entry lives that these values purge. */
  protected lifetime(ttl: number, ..._values: string[]): number { return ttl }
  protected lifetimeAtEdge(ttl: number, ..._tags: string[]): number { return ttl }

  private async forget(message: string): Promise<void> {
    const { keys = [], everything = false, key_patterns = [] } = JSON.parse(message) as { keys?: string[]; everything?: boolean; key_patterns?: string[] }
    if (everything || key_patterns.length > 0) await this.memory.clear()
    for (const key of keys) await this.memory.delete(key.replace(/^storefront::/, ''))
  }
}

/** DeletingCache deletes on the admin path, as good teams do: after COMMIT, and again when that fails. */
export class DeletingCache extends TtlCache {
  override async changed(change: Change): Promise<void> {
    const keys: string[] = []
    const fields: [string, string][] = []
    const tags: string[] = []
    if (change.merchant !== undefined) {
      keys.push(inValkey(merchantKey(change.merchant)))
      tags.push(`merchant-${change.merchant}`)
    }
    if (change.product !== undefined) {
      const { id, before, after } = change.product
      for (const place of [before, after]) {
        fields.push([productsKey(place.merchant_id), String(id)])
        for (const category of [0, place.category_id]) {
          tags.push(listingTag(place.merchant_id, category))
          if (moved(before, after)) keys.push(...pages.map(page => inValkey(listingKey(place.merchant_id, category, page))))
        }
      }
    }
    await retry(async () => {
      for (const [key, name] of fields) await this.valkey.hdel(key, name)
      if (keys.length > 0) await this.valkey.unlink(...keys)
    })
    await retry(() => purgeAtCloudflare([...new Set(tags)]))
    await retry(() => this.valkey.publish('invalidations', JSON.stringify({ v: 1, keys })))
  }
}

/** PurgedCache relies on walpurge for values in the rollout; the others live for a short time only. */
export class PurgedCache extends TtlCache {
  protected override lifetime(ttl: number, ...values: string[]): number {
    return inRollout(...values) ? ttl : Math.min(ttl, settings.cautiousTtl)
  }

  protected override lifetimeAtEdge(ttl: number, ...tags: string[]): number {
    return inRollout(...tags) ? ttl : Math.min(ttl, settings.edgeCautiousTtl)
  }
}

export function makeCaches(): Caches {
  switch (settings.cache) {
    case 'none': return new NoCache()
    case 'ttl': return new TtlCache()
    case 'deletes': return new DeletingCache()
    case 'walpurge': return new PurgedCache()
  }
  throw new Error(`CACHE is ${settings.cache}; write none, ttl, deletes or walpurge`)
}

const productsKey = (merchant: number) => `products:${merchant}`
const listingKey = (merchant: number, category: number, page: number) => `listing:${merchant}:${category}:${page}`
const merchantKey = (merchant: number) => `merchant:${merchant}`
const listingTag = (merchant: number, category: number) => `listing-${merchant}-${category}`
/** What @keyv/redis makes of a key: the namespace, two colons, the key. */
const inValkey = (key: string) => `storefront::${key}`

function moved(before: Place, after: Place): boolean {
  return before.merchant_id !== after.merchant_id || before.category_id !== after.category_id || before.rank !== after.rank || before.status !== after.status
}

async function purgeAtCloudflare(tags: string[]): Promise<void> {
  const answer = await fetch(`${settings.cloudflareUrl}/zones/${settings.cloudflareZone}/purge_cache`, {
    method: 'POST',
    headers: { 'Authorization': `Bearer ${settings.cloudflareToken}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ tags }),
    signal: AbortSignal.timeout(5_000),
  })
  const { success } = await answer.json() as { success: boolean }
  if (!success) throw new Error(`Cloudflare refused a purge (${answer.status})`)
}

async function retry(work: () => Promise<unknown>): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await work()
      return
    } catch (error) {
      if (tries === 5) throw error
      await new Promise(resolve => setTimeout(resolve, 20 * 2 ** tries))
    }
  }
}
