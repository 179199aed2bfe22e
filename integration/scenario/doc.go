// Package scenario runs a system that a team could have, with several ways to cache, under the same
// load, and measures what each of them serves and costs.
//
// # A scenario
//
// deploy/examples/NAME holds what a team would have, and what a run has shown:
//
//	README.md            who they are, a picture, what to look at
//	schema.sql           tables, versions and their triggers, roles app and walpurge, replica identities
//	seed.sql             the rows, run once after schema.sql
//	rules/*.yaml         rules, and rules_test.yaml with their tests
//	walpurge.yaml        the file that variant 3 runs, with variables for addresses
//	app/                 the application, its access to caches in one file
//	bounds.json          what the gate compares a run with
//	REPORT.md, results.json, chart.svg   written by a run
//
// A package of its own below integration/scenario (restaurant, storefront) has the load profile
// and starts the application: it returns a Scenario. Its line in integration/scenario/run makes
// `make scenario NAME=...` know it.
//
// # A run
//
// The database is made once, with schema.sql and seed.sql, and copied for each variant: each has
// servers of its own on free ports. Run calls Scenario.Start for each variant in turn. The harness
// then sends the stages' load to what Start returned, lets System.Write change rows beside it, and
// asks the oracle which responses were stale.
//
// Variant 0 without a cache is calibrated for ten seconds; a stage's rate is a share of what it
// sustained. Each stage of each variant has the same requests and the same writes.
//
// # What the application does for the oracle
//
// Each response that shows rows has the header Shown with the versions of these rows and of the
// lists that it is: `item:7=1042 store:3:items=998`. Caches store the header with the response. A
// response to a request that wrote has the headers Wrote, in the same form, and Committed: the
// time after COMMIT returned, in nanoseconds since 1970. Versions come from one sequence, by triggers.
//
// X-Cache: HIT, in any case, marks a response of the edge that the application did not make;
// Scenario.EdgeHeader names another header.
package scenario
