import { Inject, Injectable } from '@nestjs/common'
import { Caches, ListingPage, Merchant, Product } from './cache.js'
import { Database } from './database.js'

export const CACHES = Symbol('caches')

/** How many products a page of a listing has. */
const perPage = 20

const columns = 'id, merchant_id, category_id, title, description, price_cents, stock, status, version'

/** Reads counts the reads of the database that a response needed. */
export interface Reads { count: number }

export interface Listing { merchant: Merchant; version: number; products: Product[] }

/** Catalog reads: each from a cache, or from a replica. */
@Injectable()
export class Catalog {
  constructor(@Inject(CACHES) private readonly caches: Caches, private readonly database: Database) {}

  async listing(reads: Reads, merchant: number, category: number, page: number): Promise<Listing | undefined> {
    const [owner, { ids, version }] = await Promise.all([
      this.merchant(reads, merchant),
      this.caches.listing(merchant, category, page, () => this.fetchListing(reads, merchant, category, page)),
    ])
    if (owner === undefined) return undefined
    const products = await this.products(reads, merchant, ids)
    return { merchant: owner, version, products }
  }

  async product(reads: Reads, merchant: number, id: number): Promise<{ merchant: Merchant; product: Product } | undefined> {
    const [owner, [product]] = await Promise.all([this.merchant(reads, merchant), this.products(reads, merchant, [id])])
    return owner && product && { merchant: owner, product }
  }

  private products(reads: Reads, merchant: number, ids: number[]): Promise<Product[]> {
    return this.caches.products(merchant, ids, async missing => {
      reads.count++
      const products = await this.database.read<Product & Record<string, unknown>>('products',
        `SELECT ${columns} FROM products WHERE merchant_id = $1 AND id = ANY($2)`, [merchant, missing])
      return products.sort((a, b) => missing.indexOf(a.id) - missing.indexOf(b.id))
    })
  }

  private merchant(reads: Reads, id: number): Promise<Merchant | undefined> {
    return this.caches.merchant(id, async () => {
      reads.count++
      const [merchant] = await this.database.read<Merchant & Record<string, unknown>>('merchant', 'SELECT id, name, version FROM merchants WHERE id = $1', [id])
      return merchant
    })
  }

  /** The ids of a page and the version of the listing are read in one statement, so they belong together. */
  private async fetchListing(reads: Reads, merchant: number, category: number, page: number): Promise<ListingPage> {
    reads.count++
    const [row] = await this.database.read<{ ids: number[]; version: number }>('listing', `
      SELECT coalesce((SELECT version FROM listings WHERE merchant_id = $1 AND category_id = $2), 0) AS version,
             ARRAY(SELECT id::int FROM products WHERE merchant_id = $1 AND status = 'active' AND ($2 = 0 OR category_id = $2)
                   ORDER BY rank, id LIMIT ${perPage} OFFSET $3) AS ids`, [merchant, category, (page - 1) * perPage])
    return { ids: row.ids, version: row.version }
  }
}
