import type { Response } from 'express'

// Headers for the test that checks what is stale. A team that does not test in this way leaves them out.

/** shown says which versions of rows and lists a response shows, and how many reads of the database it needed. */
export function shown(response: Response, reads: { count: number }, versions: Record<string, number>): void {
  response.set('Shown', text(versions))
  response.set('Filled', String(reads.count))
}

/** wrote says which versions a request has written, and when COMMIT had returned. */
export function wrote(response: Response, versions: Record<string, number>, committedAt: number): void {
  response.set('Wrote', text(versions))
  response.set('Committed', `${BigInt(committedAt) * 1_000_000n}`)
}

function text(versions: Record<string, number>): string {
  return Object.entries(versions).map(([row, version]) => `${row}=${version}`).join(' ')
}
