import { Injectable, Logger, OnApplicationShutdown } from '@nestjs/common'
import pg from 'pg'
import { settings } from './settings.js'

pg.types.setTypeParser(pg.types.builtins.INT8, Number)

/** A replica that failed is left alone for this long. */
const restMs = 1_000

interface Replica { pool: pg.Pool; restsUntil: number }

/** Database writes to the primary and reads from the replicas in turn, from another one if the first fails. */
@Injectable()
export class Database implements OnApplicationShutdown {
  private readonly log = new Logger('database')
  private readonly primary = pool(settings.databaseUrl, 6)
  private readonly replicas: Replica[] = settings.replicaUrls.map(url => ({ pool: pool(url, 8), restsUntil: 0 }))
  private turn = 0

  async read<Row extends pg.QueryResultRow>(name: string, text: string, values: unknown[]): Promise<Row[]> {
    const query = { name, text, values }
    for (let tries = 0; tries < this.replicas.length; tries++) {
      const replica = this.replicas[this.turn++ % this.replicas.length]
      if (replica.restsUntil > Date.now()) continue
      try {
        return (await replica.pool.query<Row>(query)).rows
      } catch (error) {
        if (error instanceof pg.DatabaseError && !['57P01', '57P02', '57P03'].includes(error.code ?? '')) throw error
        replica.restsUntil = Date.now() + restMs
        this.log.warn(`a replica does not answer, reading elsewhere: ${(error as Error).message}`)
      }
    }
    return (await this.primary.query<Row>(query)).rows
  }

  /** change runs statements in a transaction, and returns when COMMIT has returned. */
  async change<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    const client = await this.primary.connect()
    try {
      await client.query('BEGIN')
      const result = await work(client)
      await client.query('COMMIT')
      return result
    } catch (error) {
      await client.query('ROLLBACK').catch(() => undefined)
      throw error
    } finally {
      client.release()
    }
  }

  async onApplicationShutdown(): Promise<void> {
    await Promise.all([this.primary, ...this.replicas.map(r => r.pool)].map(p => p.end()))
  }
}

function pool(connectionString: string, max: number): pg.Pool {
  const pool = new pg.Pool({ connectionString, max, connectionTimeoutMillis: 2_000 })
  pool.on('error', () => undefined) // an idle connection that ended is replaced
  return pool
}
