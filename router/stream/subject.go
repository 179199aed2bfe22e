package stream

import (
	"slices"
	"strings"
)

// Subjects and names are derived from pipeline and sink, which configuration
// restricts to [a-z0-9_]; no data ever enters a subject.

func purgeSubject(pipeline, sink string) string  { return "walpurge." + pipeline + ".purge." + sink }
func handSubject(pipeline, sink string) string   { return "walpurge." + pipeline + ".hand." + sink }
func trimmedSubject(pipeline string) string      { return "walpurge." + pipeline + ".note.trimmed" }
func parkedSubject(pipeline, sink string) string { return "walpurge." + pipeline + ".parked." + sink }
func progressSubject(pipeline string) string     { return "walpurge." + pipeline + ".progress" }

// storedSubject is where the number of the newest manual purge is recorded that was stored
// for a sink, doneSubject that of the newest one that was carried out.
func storedSubject(pipeline, sink string) string { return "walpurge." + pipeline + ".manual." + sink }
func doneSubject(pipeline, sink string) string   { return acceptedSubject(pipeline, "manual", sink) }

// acceptedSubject is where a lane notes which loss it has answered for: of the
// head, or of a hole.
func acceptedSubject(pipeline, what, sink string) string {
	return "walpurge." + pipeline + ".note." + what + "." + sink
}

// PurgedSubject is the core NATS subject on which a lane repeats what it has
// purged; sink may be "*", or ">" as the whole of what listeners may subscribe to.
func PurgedSubject(pipeline, sink string) string { return "walpurge." + pipeline + ".purged." + sink }

func streamName(pipeline string) string { return "walpurge_" + pipeline }
func parkedName(pipeline string) string { return "walpurge_" + pipeline + "_parked" }
func handName(pipeline string) string   { return "walpurge_" + pipeline + "_hand" }

// checkName is the scratch stream of a Trial.
func checkName(pipeline string) string    { return "walpurge_" + pipeline + "_check" }
func checkSubject(pipeline string) string { return "walpurge." + pipeline + ".check" }

// Permissions are the subjects that the daemon's user needs to publish and to subscribe to on a NATS server
// that is not embedded. A listener needs to subscribe to the last of them, and nothing else.
func Permissions(pipeline string) (publish, subscribe []string) {
	publish = []string{"walpurge." + pipeline + ".>"}
	for _, name := range []string{streamName(pipeline), parkedName(pipeline), handName(pipeline), checkName(pipeline)} {
		publish = append(publish, "$JS.API.STREAM.*."+name, "$JS.API.STREAM.MSG.*."+name, "$JS.API.CONSUMER.*."+name,
			"$JS.API.CONSUMER.*."+name+".>", "$JS.API.CONSUMER.MSG.NEXT."+name+".>", "$JS.ACK."+name+".>")
	}
	return publish, []string{"_INBOX.>", PurgedSubject(pipeline, ">")}
}

// Pipelines returns the pipelines whose streams have the names, in their order.
func Pipelines(streams []string) (pipelines []string) {
	for _, name := range streams {
		pipeline, ours := strings.CutPrefix(name, streamName(""))
		beside := slices.ContainsFunc(streams, func(main string) bool {
			main, _ = strings.CutPrefix(main, streamName(""))
			return name == parkedName(main) || name == handName(main)
		})
		if ours && !beside {
			pipelines = append(pipelines, pipeline)
		}
	}
	return pipelines
}
