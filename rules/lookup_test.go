package rules

// noLookups is for Outputs of rules without lookups.
type noLookups struct{}

func (noLookups) Lookup(*Pending) { panic("no rule here has a lookup") }
