/** What the environment says. Times are in milliseconds, edge lifetimes in seconds, as Cache-Control has them. */
export const settings = {
  port: number('PORT', 3000),
  /** The primary, for writes. */
  databaseUrl: text('DATABASE_URL', 'postgres://app@127.0.0.1/storefront'),
  /** Read replicas, separated by commas. Pages are made from these. */
  replicaUrls: text('REPLICA_URLS', '').split(',').filter(url => url !== ''),
  valkeyUrl: text('VALKEY_URL', 'redis://127.0.0.1:6379'),
  /** How caches are kept fresh: none, ttl, deletes or walpurge. */
  cache: text('CACHE', 'walpurge'),
  /** Lifetimes in Valkey. */
  productTtl: number('PRODUCT_TTL', 300_000),
  listingTtl: number('LISTING_TTL', 30_000),
  categoryTtl: number('CATEGORY_TTL', 300_000),
  /** Lifetimes at the CDN. */
  edgeListingTtl: number('EDGE_LISTING_TTL', 30),
  edgeCategoryTtl: number('EDGE_CATEGORY_TTL', 300),
  /** How long an instance keeps the name of a merchant in memory. */
  memoryTtl: number('MEMORY_TTL', 5_000),
  /** The part of the values that rely on purges, in percent; the same as `rollout` in walpurge.yaml. */
  rollout: number('ROLLOUT', 100),
  /** What values outside the rollout live, at most. */
  cautiousTtl: number('CAUTIOUS_TTL', 30_000),
  edgeCautiousTtl: number('EDGE_CAUTIOUS_TTL', 30),
  cloudflareUrl: text('CLOUDFLARE_URL', 'https://api.cloudflare.com/client/v4'),
  cloudflareZone: text('CLOUDFLARE_ZONE', '023e105f4ecef8ad9ca31a8372d0c353'),
  cloudflareToken: text('CLOUDFLARE_TOKEN', ''),
}

function text(name: string, otherwise: string): string {
  return process.env[name] ?? otherwise
}

function number(name: string, otherwise: number): number {
  const value = Number(process.env[name] ?? otherwise)
  if (!Number.isFinite(value)) throw new Error(`${name} is not a number: ${process.env[name]}`)
  return value
}
