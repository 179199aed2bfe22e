// Package dashboard runs the dashboard API of deploy/examples/dashboard: users who read preferences,
// summaries and live data from a Python application with Valkey, the changes beside them, and a
// Valkey that is killed and comes back with what it held.
package dashboard
