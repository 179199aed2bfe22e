import 'reflect-metadata'
import { Inject, Module, OnApplicationShutdown } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { AdminController } from './admin.controller.js'
import { type Caches, makeCaches } from './cache.js'
import { CatalogController } from './catalog.controller.js'
import { CACHES, Catalog } from './catalog.service.js'
import { Database } from './database.js'
import { MetricsController } from './metrics.controller.js'
import { settings } from './settings.js'

@Module({
  controllers: [CatalogController, AdminController, MetricsController],
  providers: [Catalog, Database, { provide: CACHES, useFactory: makeCaches }],
})
class Storefront implements OnApplicationShutdown {
  constructor(@Inject(CACHES) private readonly caches: Caches) {}

  async onApplicationShutdown(): Promise<void> {
    await this.caches.close()
  }
}

const app = await NestFactory.create(Storefront, { logger: ['error', 'warn'], forceCloseConnections: true })
app.enableShutdownHooks()
await app.listen(settings.port, '127.0.0.1')
console.log(`storefront ${process.pid} listens on ${settings.port}`)
