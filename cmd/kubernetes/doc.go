// Package kubernetes labels the pod that the daemon runs in while the daemon leads its pipeline, so that a Service can
// select the leader. It sends one PATCH to the API server at each change, and repeats it from time to time because
// another client may have changed the label. It never fails the daemon: what the API server refuses is logged.
package kubernetes
