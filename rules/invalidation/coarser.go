package invalidation

import (
	"encoding/base64"
	"fmt"
	"time"
	"unicode/utf8"
)

// coarser is the JSON form of one step of an item's collapse: kinds without
// values are left out.
type coarser struct {
	Over        int                 `json:"over"`
	Keys        []string            `json:"keys,omitempty"`
	Tags        []string            `json:"tags,omitempty"`
	URLs        []string            `json:"urls,omitempty"`
	URLPrefixes []string            `json:"url_prefixes,omitempty"`
	KeyPrefixes []string            `json:"key_prefixes,omitempty"`
	Generations []string            `json:"generations,omitempty"`
	Fields      []field             `json:"fields,omitempty"`
	Base64      map[string][]string `json:"base64,omitempty"`
}

func (c *coarser) list(k Kind) *[]string {
	switch k {
	case Key:
		return &c.Keys
	case Tag:
		return &c.Tags
	case URL:
		return &c.URLs
	case URLPrefix:
		return &c.URLPrefixes
	case KeyPrefix:
		return &c.KeyPrefixes
	case Generation:
		return &c.Generations
	}
	return nil
}

func encodeCoarser(steps []CoarserValues) []coarser {
	var out []coarser
	for i := range steps {
		c := coarser{Over: steps[i].Over}
		for k, values := range steps[i].Values {
			kind := Kind(k)
			if kind == Field {
				c.Fields = encodeFields(values)
				continue
			}
			list := c.list(kind)
			if list == nil {
				continue // no step has patterns, or everything
			}
			for _, v := range values {
				if utf8.ValidString(v) {
					*list = append(*list, v)
					continue
				}
				if c.Base64 == nil {
					c.Base64 = make(map[string][]string)
				}
				c.Base64[kind.String()] = append(c.Base64[kind.String()], base64.StdEncoding.EncodeToString([]byte(v)))
			}
		}
		out = append(out, c)
	}
	return out
}

func decodeCoarser(steps []coarser) ([]CoarserValues, error) {
	var out []CoarserValues
	for i := range steps {
		c := CoarserValues{Over: steps[i].Over}
		for k := range c.Values {
			kind := Kind(k)
			if kind == Field {
				var err error
				if c.Values[k], err = decodeFields(steps[i].Fields); err != nil {
					return nil, err
				}
				continue
			}
			list := steps[i].list(kind)
			if list == nil {
				continue
			}
			c.Values[k] = *list
			for _, s := range steps[i].Base64[kind.String()] {
				b, err := base64.StdEncoding.DecodeString(s)
				if err != nil {
					return nil, fmt.Errorf("base64 %s: %w", kind, err)
				}
				c.Values[k] = append(c.Values[k], string(b))
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// period is a duration as Go writes it, empty for none.
func period(every time.Duration) string {
	if every <= 0 {
		return ""
	}
	return every.String()
}

func parsePeriod(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	every, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("every: %w", err)
	}
	return every, nil
}
