import { Controller, Get, Inject, NotFoundException, Param, ParseIntPipe, Query, Res } from '@nestjs/common'
import type { Response } from 'express'
import type { Caches } from './cache.js'
import { CACHES, Catalog } from './catalog.service.js'
import { count } from './metrics.controller.js'
import { shown } from './versions.js'

/** What visitors see. */
@Controller('merchants/:merchant')
export class CatalogController {
  constructor(private readonly catalog: Catalog, @Inject(CACHES) private readonly caches: Caches) {}

  /** A page of a merchant's products, of one category or of all (0). The CDN keeps it. */
  @Get('products')
  async listing(
    @Param('merchant', ParseIntPipe) merchant: number,
    @Query('category', ParseIntPipe) category: number,
    @Query('page', ParseIntPipe) page: number,
    @Res({ passthrough: true }) response: Response,
  ) {
    const reads = { count: 0 }
    const listing = await this.catalog.listing(reads, merchant, category, page)
    if (listing === undefined) throw new NotFoundException()
    count(category === 0 ? 'listing' : 'category', reads)
    response.set(this.caches.atEdge(merchant, category))
    shown(response, reads, {
      [`merchant:${merchant}`]: listing.merchant.version,
      [`listing:${merchant}:${category}`]: listing.version,
      ...Object.fromEntries(listing.products.map(p => [`product:${p.id}`, p.version])),
    })
    return {
      merchant: listing.merchant.name,
      products: listing.products.map(p => ({ id: p.id, title: p.title, price: p.price_cents / 100, stock: p.stock })),
    }
  }

  /** A product with its details. It is not for the CDN, because prices may depend on the visitor. */
  @Get('products/:id')
  async product(
    @Param('merchant', ParseIntPipe) merchant: number,
    @Param('id', ParseIntPipe) id: number,
    @Res({ passthrough: true }) response: Response,
  ) {
    const reads = { count: 0 }
    const found = await this.catalog.product(reads, merchant, id)
    response.set('Cache-Control', 'private, no-store')
    if (found === undefined) throw new NotFoundException()
    count('product', reads)
    shown(response, reads, { [`merchant:${merchant}`]: found.merchant.version, [`product:${id}`]: found.product.version })
    return { merchant: found.merchant.name, ...found.product }
  }
}
