package rules

import (
	"errors"
	"fmt"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/failpoint"
)

// match tries a condition with the new and with the old row. Either one is
// enough; if neither is true and one could not be decided, that is a match too,
// and unknown says so. failed is set where the reason was not a missing column.
func (p *Plan) match(c *condition, op cdc.Op) (match, unknown, failed bool) {
	first, second := p.view(c.expression, op)
	yes, err := p.try(c, first)
	if !yes && second != nil {
		var err2 error
		if yes, err2 = p.try(c, second); err2 != nil {
			err = errors.Join(err, err2)
		}
	}
	if yes || err == nil {
		return yes, false, false
	}
	return !failpoint.On("unknown_as_false"), true, !onlyNotCarried(err)
}

// view shows the change at hand to conditions, and says which images one is to
// be tried with: the new and the old one, or one of them.
func (p *Plan) view(e *expression, op cdc.Op) (first, second *rowView) {
	if !p.viewed {
		if p.newView.reset(p.new); p.elsewhere {
			p.newView.reset(make(cdc.Tuple, len(p.newRow)))
		}
		p.oldView.reset(p.old)
		p.viewed = true
	}
	p.vars.op = types.String(op.String())
	switch {
	case p.new == nil:
		return &p.oldView, nil
	case p.old == nil || !e.usesRow:
		return &p.newView, nil
	}
	return &p.newView, &p.oldView
}

// try evaluates a condition for one image.
func (p *Plan) try(c *condition, row *rowView) (yes bool, err error) {
	p.vars.row = row
	out, err := c.run(&p.vars)
	if err != nil {
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, errors.New("the condition gave neither true nor false")
	}
	return bool(b), nil
}

// run evaluates an expression; a panic is an error of it.
func (e *expression) run(vars *activation) (out ref.Val, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, fmt.Errorf("evaluate the expression: panic: %v", r)
		}
	}()
	if e.stopped != nil {
		out, _, err = e.program.ContextEval(e.stopped, vars)
	} else {
		out, _, err = e.program.Eval(vars)
	}
	vars.exceeded = vars.exceeded || err != nil && exceeded(err)
	return out, err
}

// onlyNotCarried reports whether every cause is something that the stream did
// not carry: a column, a path of a JSON document, or how SQL would compare two values.
func onlyNotCarried(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if !onlyNotCarried(e) {
				return false
			}
		}
		return true
	}
	var column *errNotCarried
	var path *errMissingPath
	return errors.As(err, &column) || errors.As(err, &path) || errors.Is(err, errUndecided)
}
