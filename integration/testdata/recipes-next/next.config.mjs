// With CACHE_URL, all processes share what they cache in Valkey.
export default process.env.CACHE_URL ? { cacheHandler: import.meta.dirname + '/cache-handler.mjs', cacheMaxMemorySize: 0 } : {}
