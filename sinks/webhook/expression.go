package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/ext"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// maxCost bounds one evaluation, in CEL's units: about one per operation and
// one per ten bytes copied. A loop over the largest batch takes some thousand.
const maxCost = 2_000_000

// maxBody bounds a body.
const maxBody = 8 << 20

// Finding is what is wrong with an expression.
type Finding struct {
	// Offset is where, in bytes; -1 for the whole.
	Offset int
	Text   string
}

// CheckJSON reports what is wrong with the `json:` expression; nothing for the
// empty one. It is tried with a value of each kind and with everything, so that
// what always fails is found before it is needed.
func CheckJSON(text string) []Finding {
	if text == "" {
		return nil
	}
	x, found := compile(text)
	if len(found) > 0 {
		return found
	}
	var one []invalidation.Invalidation
	for _, k := range invalidation.InRules() {
		one = append(one, invalidation.Invalidation{Kind: k, Value: "sample", Rule: "sample"})
	}
	if _, err := x.body(context.Background(), one); err != nil {
		return []Finding{{-1, fmt.Sprintf("it fails for a batch with one value of each kind: %v", err)}}
	}
	all := []invalidation.Invalidation{{Kind: invalidation.Everything}}
	if _, err := x.body(context.Background(), all); err != nil {
		return []Finding{{-1, fmt.Sprintf("it fails for a batch whose lists are empty, as when everything is flushed: %v; write `everything ? ... : ...`, or test with size()", err)}}
	}
	return nil
}

// expression makes a body of a batch. It is safe for concurrent use.
type expression struct{ program cel.Program }

func compile(text string) (*expression, []Finding) {
	whole := func(err error) []Finding { return []Finding{{-1, err.Error()}} }
	options := []cel.EnvOption{
		cel.Variable("everything", cel.BoolType),
		ext.Strings(ext.StringsVersion(5)), ext.Encoders(),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateDurationLiterals()),
		cel.ParserRecursionLimit(100),
	}
	for _, k := range invalidation.InRules() {
		element := cel.StringType
		if k.Form() == invalidation.FormField {
			element = cel.MapType(cel.StringType, cel.StringType)
		}
		options = append(options, cel.Variable(k.Plural(), cel.ListType(element)))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, whole(err)
	}
	tree, issues := env.Compile(text)
	if issues.Err() != nil {
		var out []Finding
		for _, e := range issues.Errors() {
			msg := strings.ReplaceAll(e.Message, " (in container '')", "")
			msg, _, _ = strings.Cut(msg, " expecting {")
			out = append(out, Finding{offset(text, e.Location), msg})
		}
		return nil, out
	}
	program, err := env.Program(tree, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(1000))
	if err != nil {
		return nil, whole(err)
	}
	return &expression{program}, nil
}

// offset turns CEL's place (line from 1, character from 0) into bytes.
func offset(text string, at common.Location) int {
	if at == nil || at.Line() < 1 || at.Column() < 0 {
		return -1
	}
	start := 0
	for range at.Line() - 1 {
		n := strings.IndexByte(text[start:], '\n')
		if n < 0 {
			return -1
		}
		start += n + 1
	}
	seen := 0
	for i := range text[start:] {
		if seen == at.Column() {
			return start + i
		}
		seen++
	}
	return len(text)
}

// body evaluates the expression. Its error holds no value of the batch.
func (x *expression) body(ctx context.Context, batch []invalidation.Invalidation) ([]byte, error) {
	vars := map[string]any{"everything": false}
	for _, k := range invalidation.InRules() {
		vars[k.Plural()] = []any{}
	}
	for _, inv := range batch {
		if inv.Kind == invalidation.Everything {
			vars["everything"] = true
			continue
		}
		name := inv.Kind.Plural()
		values, named := vars[name].([]any)
		if !named {
			return nil, fmt.Errorf("an expression has no variable with %s", name)
		}
		if inv.Kind.Form() == invalidation.FormField {
			key, field := invalidation.SplitField(inv.Value)
			vars[name] = append(values, map[string]string{"key": key, "field": field})
			continue
		}
		vars[name] = append(values, inv.Value)
	}
	out, _, err := x.program.ContextEval(ctx, vars)
	if err != nil {
		return nil, evalError(err)
	}
	value, err := out.ConvertToNative(reflect.TypeFor[*structpb.Value]())
	if err != nil {
		return nil, fmt.Errorf("its result, of the type %s, has no form in JSON", out.Type().TypeName())
	}
	v, ok := value.(*structpb.Value)
	if !ok {
		return nil, errors.New("its result has no form in JSON")
	}
	body, err := json.Marshal(v.AsInterface())
	if err != nil {
		return nil, errors.New("its result has no form in JSON")
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("its result has %d bytes, at most %d are sent", len(body), maxBody)
	}
	return body, nil
}

// evalError says what happened without what it happened to: CEL quotes keys and
// texts that it stumbles over.
func evalError(err error) error {
	text := err.Error()
	for _, known := range []string{"actual cost limit exceeded", "operation interrupted", "index out of bounds", "no such key", "no such overload", "division by zero"} {
		if strings.Contains(text, known) {
			return errors.New(known)
		}
	}
	return errors.New("it failed")
}
