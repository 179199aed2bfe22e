// Package condition keeps what repeats out of the log: a retry every second, a refused call, a
// closed gate. Such events are occurrences of a condition, and the log has one line when the
// condition begins, one every ten minutes while it lasts, and one when it ends, with its duration
// and the sums of its occurrences.
//
// A component makes one Log around its logger, and closes it when it stops. At names a condition by
// its Text and by labels that come from the configuration or from a closed list (a gate, a sink, a
// class of errors). The text of an error is no label: a provider may write a request id into each.
//
// A condition that begins again within ten minutes of its end is unstable: the log says so once, and
// then has a summary every ten minutes until it has been over for that long. So one condition writes
// at most four lines in ten minutes, whatever happens.
package condition
