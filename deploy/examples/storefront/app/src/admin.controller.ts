import { Body, Controller, Get, Inject, NotFoundException, Param, ParseIntPipe, Put, Res } from '@nestjs/common'
import type { Response } from 'express'
import type { Caches, Place } from './cache.js'
import { CACHES } from './catalog.service.js'
import { Database } from './database.js'
import { wrote } from './versions.js'

interface ProductChange { price_cents?: number; stock?: number; rank?: number; category_id?: number }

/** What the merchants' back office calls: the one path on which the application itself knows of changes. */
@Controller('admin')
export class AdminController {
  constructor(private readonly database: Database, @Inject(CACHES) private readonly caches: Caches) {}

  @Get('health')
  health() { return { ok: true } }

  @Put('products/:id')
  async product(@Param('id', ParseIntPipe) id: number, @Body() change: ProductChange, @Res({ passthrough: true }) response: Response) {
    const versions: Record<string, number> = {}
    const { before, after } = await this.database.change(async client => {
      const { rows: [before] } = await client.query<Place>('SELECT merchant_id, category_id, rank, status FROM products WHERE id = $1 FOR UPDATE', [id])
      if (before === undefined) throw new NotFoundException()
      const { rows: [after] } = await client.query<Place & { version: number }>(`
        UPDATE products SET price_cents = coalesce($2, price_cents), stock = coalesce($3, stock), rank = coalesce($4, rank), category_id = coalesce($5, category_id)
        WHERE id = $1 RETURNING merchant_id, category_id, rank, status, version`,
        [id, change.price_cents, change.stock, change.rank, change.category_id])
      versions[`product:${id}`] = after.version
      if (before.rank !== after.rank || before.category_id !== after.category_id) {
        const { rows } = await client.query<{ category_id: number; version: number }>(
          'SELECT category_id, version FROM listings WHERE merchant_id = $1 AND category_id = ANY($2)', [after.merchant_id, [0, before.category_id, after.category_id]])
        for (const listing of rows) versions[`listing:${after.merchant_id}:${listing.category_id}`] = listing.version
      }
      return { before, after }
    })
    const committedAt = Date.now() + 1 // rounded up
    await this.caches.changed({ product: { id, before, after } })
    wrote(response, versions, committedAt)
    return {}
  }

  @Put('merchants/:id')
  async merchant(@Param('id', ParseIntPipe) id: number, @Body() change: { name: string }, @Res({ passthrough: true }) response: Response) {
    const version = await this.database.change(async client => {
      const { rows: [after] } = await client.query<{ version: number }>('UPDATE merchants SET name = $2 WHERE id = $1 RETURNING version', [id, change.name])
      if (after === undefined) throw new NotFoundException()
      return after.version
    })
    const committedAt = Date.now() + 1 // rounded up
    await this.caches.changed({ merchant: id })
    wrote(response, { [`merchant:${id}`]: version }, committedAt)
    return {}
  }
}
