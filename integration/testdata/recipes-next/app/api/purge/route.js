import { revalidateTag } from 'next/cache'
export async function POST(request) {
  for (const tag of (await request.json()).tags) revalidateTag(tag, { expire: 0 })
  return new Response(null, { status: 204 })
}
