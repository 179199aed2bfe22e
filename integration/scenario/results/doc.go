// Package results holds the figures of a scenario's run: their form in results.json, the report and
// the chart that are made of them, and the comparison of a run with committed bounds. It is pure.
//
// Durations are in milliseconds as measured, shares from 0 to 1. A figure is measured on one
// machine in one run, so only figures of the same file compare with each other; the gate therefore
// compares counts, and of times only the ratio of two variants of one run.
package results
