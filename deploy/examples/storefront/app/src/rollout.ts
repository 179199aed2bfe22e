import { settings } from './settings.js'

const mask = (1n << 64n) - 1n

/**
 * bucket is a value's place in a rollout, from 0 to 99: the 64-bit FNV-1a hash of its bytes, modulo 100.
 * walpurge computes the same, so that both have the same values in the rollout.
 */
export function bucket(value: string): number {
  let hash = 0xcbf29ce484222325n
  for (const byte of new TextEncoder().encode(value)) {
    hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & mask
  }
  return Number(hash % 100n)
}

/** field is the value of a field of a hash: the key, a zero byte, the field. Ours have no byte that needs an escape. */
export function field(key: string, name: string): string {
  return `${key}\0${name}`
}

/** inRollout reports whether walpurge purges all of these values. */
export function inRollout(...values: string[]): boolean {
  return values.every(value => bucket(value) < settings.rollout)
}
