package stream

import "context"

// nothingLeft reports whether the lane has acknowledged every batch before seq, which
// must be in the stream already.
//
// That is asked of the stream's leader, which has whatever comes before a message that
// anybody was shown. On a cluster, the leader of the consumer may be another server and
// behind with the stream: it says that nothing is left of messages that it has not got.
// What it knows to be acknowledged is true all the same, only perhaps not the newest.
func (c *Consumer) nothingLeft(ctx context.Context, seq uint64) bool {
	info, err := c.cons.Info(ctx)
	if err != nil {
		return false
	}
	first, err := c.s.firstOwed(ctx, c.from, info.Config, max(c.Floor(), info.AckFloor.Stream))
	return err == nil && (first == 0 || first >= seq)
}
