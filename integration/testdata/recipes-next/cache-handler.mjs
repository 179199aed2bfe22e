import { createClient } from 'redis'
import { CacheHandler } from '@fortedigital/nextjs-cache-handler'
import createRedisHandler from '@fortedigital/nextjs-cache-handler/redis-strings'

CacheHandler.onCreation(async () => {
  const client = createClient({ url: process.env.CACHE_URL })
  client.on('error', () => {})
  await client.connect()
  return { handlers: [createRedisHandler({ client, keyPrefix: 'shop:' })] }
})

export default CacheHandler
