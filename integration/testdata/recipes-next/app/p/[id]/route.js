import { unstable_cache } from 'next/cache'
let calls = 0
export async function GET(request, { params }) {
  const { id } = await params
  const read = unstable_cache(async id => ({ id, calls: ++calls }), ['product'], { tags: [`product-${id}`] })
  return Response.json(await read(id))
}
