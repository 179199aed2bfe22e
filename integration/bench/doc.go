// Package bench measures the whole pipeline beside PostgreSQL's own decoding
// rate, on throwaway servers on this machine: how fast a backlog is drained, and
// how soon after its commit a row's key is gone. Figures of one run compare with
// each other only: they are medians of alternating rounds and their ratios.
package bench
