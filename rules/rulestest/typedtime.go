package rulestest

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	dateForm  = `([0-9]{4,7})-([0-9]{2})-([0-9]{2})`
	clockForm = `([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?`
	zoneForm  = `(Z|z| ?UTC|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?)`
)

var (
	wholeDate   = regexp.MustCompile(`^` + dateForm + `( BC)?$`)
	wholeMoment = regexp.MustCompile(`^` + dateForm + `(?:[ T]` + clockForm + ` ?` + zoneForm + `?)?( BC)?$`)
	wholeClock  = regexp.MustCompile(`^` + clockForm + zoneForm + `?$`)
)

func infinite(text string) bool { return text == "infinity" || text == "-infinity" }

// day is a date of the calendar as PostgreSQL has it, without a year 0.
func day(year, month, date string, before bool) (time.Time, error) {
	y, _ := strconv.Atoi(year) // the forms have made sure of digits
	m, _ := strconv.Atoi(month)
	d, _ := strconv.Atoi(date)
	if y == 0 {
		return time.Time{}, errors.New("there is no year 0")
	}
	if before {
		y = 1 - y
	}
	t := time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
	if t.Month() != time.Month(m) || t.Day() != d {
		return time.Time{}, errors.New("there is no such day")
	}
	return t, nil
}

func dayText(t time.Time) (date, era string) {
	y := t.Year()
	if y <= 0 {
		y, era = 1-y, " BC"
	}
	return fmt.Sprintf("%04d-%02d-%02d", y, t.Month(), t.Day()), era
}

func dateText(text string, _ []int) (string, error) {
	if infinite(text) {
		return text, nil
	}
	m := wholeDate.FindStringSubmatch(text)
	if m == nil {
		return "", errors.New("write a date like 2026-11-20, or infinity")
	}
	t, err := day(m[1], m[2], m[3], m[4] != "")
	if err != nil {
		return "", err
	}
	date, era := dayText(t)
	return date + era, nil
}

// clock is the time of a day, of which 24:00:00 is the last.
func clock(hour, minute, second, fraction string, mods []int) (time.Duration, error) {
	n := func(digits string) time.Duration {
		i, _ := strconv.Atoi(digits)
		return time.Duration(i)
	}
	h, m, s := n(hour), n(minute), n(second)
	micro := n((fraction + "000000")[:6])
	out := h*time.Hour + m*time.Minute + s*time.Second + micro*time.Microsecond
	if m > 59 || s > 59 || out > 24*time.Hour {
		return 0, errors.New("there is no such time of the day")
	}
	if len(mods) > 0 && mods[0] < 6 {
		unit := time.Microsecond
		for range 6 - mods[0] {
			unit *= 10
		}
		out = out.Round(unit)
	}
	return out, nil
}

func clockString(d time.Duration) string {
	out := fmt.Sprintf("%02d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
	if micro := d % time.Second / time.Microsecond; micro != 0 {
		out += strings.TrimRight(fmt.Sprintf(".%06d", micro), "0")
	}
	return out
}

// zone is how far a place is ahead of UTC, where nothing is written it is UTC.
func zone(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if text == "" || text == "Z" || text == "z" || text == "UTC" {
		return 0, nil
	}
	digits := strings.ReplaceAll(text[1:], ":", "") + "0000"
	d, err := clock(digits[:2], digits[2:4], digits[4:6], "", nil)
	if err != nil || d >= 16*time.Hour {
		return 0, errors.New("there is no such time zone")
	}
	if text[0] == '-' {
		d = -d
	}
	return d, nil
}

// momentText prints a timestamp, one with a zone in UTC, as the replication
// session does.
func momentText(text string, mods []int, zoned bool) (string, error) {
	if infinite(text) {
		return text, nil
	}
	m := wholeMoment.FindStringSubmatch(text)
	switch {
	case m == nil && zoned:
		return "", errors.New("write a moment like 2026-11-20T12:00:00Z or 2026-11-20 12:00:00+01, or infinity")
	case m == nil:
		return "", errors.New("write a moment like 2026-11-20 12:00:00, or infinity")
	case m[8] != "" && !zoned:
		return "", errors.New("the column has no time zone, so PostgreSQL would ignore this one; take it out")
	}
	t, err := day(m[1], m[2], m[3], m[9] != "")
	if err != nil {
		return "", err
	}
	at, err := clock(m[4], m[5], m[6], m[7], mods)
	if err != nil {
		return "", err
	}
	ahead, err := zone(m[8])
	if err != nil {
		return "", err
	}
	t = t.Add(at - ahead)
	date, era := dayText(t)
	h, mi, s := t.Clock()
	of := time.Duration(h)*time.Hour + time.Duration(mi)*time.Minute + time.Duration(s)*time.Second + time.Duration(t.Nanosecond())
	out := date + " " + clockString(of)
	if zoned {
		out += "+00"
	}
	return out + era, nil
}

func clockText(text string, mods []int, zoned bool) (string, error) {
	m := wholeClock.FindStringSubmatch(text)
	switch {
	case m == nil:
		return "", errors.New("write a time of the day like 12:00:00")
	case m[5] != "" && !zoned:
		return "", errors.New("the column has no time zone, so PostgreSQL would ignore this one; take it out")
	}
	at, err := clock(m[1], m[2], m[3], m[4], mods)
	if err != nil {
		return "", err
	}
	out := clockString(at)
	if !zoned {
		return out, nil
	}
	ahead, err := zone(m[5])
	if err != nil {
		return "", err
	}
	sign := "+"
	if ahead < 0 {
		sign, ahead = "-", -ahead
	}
	offset := clockString(ahead)
	offset = strings.TrimSuffix(strings.TrimSuffix(offset, ":00"), ":00")
	return out + sign + offset, nil
}

var (
	intervalPart  = regexp.MustCompile(`^([+-]?[0-9]{1,9}) (year|mon|month|day)s?(?: |$)`)
	intervalClock = regexp.MustCompile(`^([+-]?)([0-9]{2,6}):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]{1,6}))?$`)
)

// intervalText reads what PostgreSQL prints in its own style, and prints it so.
func intervalText(text string, _ []int) (string, error) {
	wrong := errors.New("write it as PostgreSQL prints it, like 1 year 2 mons 3 days 04:05:06")
	months, days := 0, 0
	rest := text
	for m := intervalPart.FindStringSubmatch(rest); m != nil; m = intervalPart.FindStringSubmatch(rest) {
		n, _ := strconv.Atoi(m[1]) // the form has made sure
		switch m[2] {
		case "year":
			months += 12 * n
		case "mon", "month":
			months += n
		default:
			days += n
		}
		rest = rest[len(m[0]):]
	}
	at := intervalClock.FindStringSubmatch(rest)
	if rest != "" && at == nil || text == "" {
		return "", wrong
	}
	var out []string
	before := false
	add := func(n int, unit string) {
		if n == 0 {
			return
		}
		s := strconv.Itoa(n) + " " + unit
		if n != 1 {
			s += "s"
		}
		if before && n > 0 {
			s = "+" + s
		}
		before = n < 0
		out = append(out, s)
	}
	add(months/12, "year")
	add(months%12, "mon")
	add(days, "day")
	clock := "00:00:00"
	if at != nil {
		fraction := ""
		if f := strings.TrimRight(at[5], "0"); f != "" {
			fraction = "." + f
		}
		hours, _ := strconv.Atoi(at[2])
		clock = fmt.Sprintf("%02d:%s:%s%s", hours, at[3], at[4], fraction)
	}
	if strings.Trim(clock, "0:.") == "" {
		if len(out) == 0 {
			return clock, nil
		}
		return strings.Join(out, " "), nil
	}
	switch {
	case at[1] == "-":
		clock = "-" + clock
	case before:
		clock = "+" + clock
	}
	return strings.Join(append(out, clock), " "), nil
}
