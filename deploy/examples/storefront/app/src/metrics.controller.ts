import { Controller, Get, Header } from '@nestjs/common'

const responses = new Map<string, number>()

/** count counts a response, by its endpoint and by whether it needed the database. */
export function count(endpoint: 'listing' | 'category' | 'product', reads: { count: number }): void {
  const labels = `endpoint="${endpoint}",filled="${reads.count > 0}"`
  responses.set(labels, (responses.get(labels) ?? 0) + 1)
}

/** For Prometheus; ../alerts.yaml has the alarm. */
@Controller('metrics')
export class MetricsController {
  @Get()
  @Header('Content-Type', 'text/plain; version=0.0.4')
  metrics(): string {
    const lines = ['# TYPE storefront_responses_total counter']
    for (const [labels, n] of responses) lines.push(`storefront_responses_total{${labels}} ${n}`)
    return lines.join('\n') + '\n'
  }
}
