package registry

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Level is the administrative level of a division.
type Level uint8

// The levels.
const (
	LevelProvince Level = 1
	LevelCity     Level = 2
	LevelCounty   Level = 3
)

// String returns the level's name ("county").
func (l Level) String() string {
	switch l {
	case LevelProvince:
		return "province"
	case LevelCity:
		return "city"
	case LevelCounty:
		return "county"
	default:
		return fmt.Sprintf("level-%d", uint8(l))
	}
}

// Division is an administrative division (GB/T 2260). A code that went out of use keeps its row, so that numbers made
// under it stay readable; its successor is responsible now.
type Division struct {
	Code   string
	Name   string // Chinese, with its kind: 上城区
	Level  Level
	Parent string // code one level up, empty for a province

	// LongitudeE6 and LatitudeE6 are the centre's place in micro-degrees, 0 where the table has none.
	LongitudeE6, LatitudeE6 int32

	ValidFrom, ValidTo time.Time // first and last day in Shanghai; zero = not recorded
	Successor          string    // code that took over, empty while in use
}

// InUse reports whether the code has not been replaced.
func (d Division) InUse() bool { return d.Successor == "" && d.ValidTo.IsZero() }

// DivisionOf returns the division of a code, in use or not, or an error matching [ErrUnknownCode].
//
// The table comes with the build, so the answer may differ between builds: commands are checked against it in
// [State.Admit] and never while they are applied.
func DivisionOf(code string) (Division, error) {
	d, ok := divisions().byCode[code]
	if !ok {
		return Division{}, fmt.Errorf("code %.12q: %w", code, ErrUnknownCode)
	}
	return d, nil
}

// Divisions returns the whole table by code.
func Divisions() []Division { return slices.Clone(divisions().all) }

// CurrentDivision follows successors of a code to the one in use.
func CurrentDivision(code string) (Division, error) {
	d, err := DivisionOf(code)
	for range len(divisions().all) {
		if err != nil || d.Successor == "" {
			break
		}
		d, err = DivisionOf(d.Successor)
	}
	return d, err
}

// Supervises reports whether the division of code upper is above that of code lower: the same city or province.
func Supervises(upper, lower string) bool {
	for lower != "" {
		d, err := DivisionOf(lower)
		if err != nil || d.Parent == "" {
			return false
		}
		if d.Parent == upper {
			return true
		}
		lower = d.Parent
	}
	return false
}

//go:embed divisions.csv
var divisionsCSV string

type divisionTable struct {
	all    []Division
	byCode map[string]Division
}

var divisions = sync.OnceValue(func() divisionTable {
	t, err := parseDivisions(divisionsCSV)
	if err != nil {
		panic("registry: the built-in table of divisions is broken, take another build: " + err.Error())
	}
	return t
})

// parseDivisions reads code, name, longitude, latitude, first day, last day and successor, with a header line.
func parseDivisions(text string) (divisionTable, error) {
	r := csv.NewReader(strings.NewReader(text))
	r.FieldsPerRecord = 7
	rows, err := r.ReadAll()
	if err != nil {
		return divisionTable{}, fmt.Errorf("read divisions: %w", err)
	}
	t := divisionTable{byCode: make(map[string]Division, len(rows))}
	for _, row := range rows[1:] {
		d := Division{Code: row[0], Name: row[1], Successor: row[6]}
		if !validCode(d.Code) {
			return t, fmt.Errorf("division %q: code of other than six digits", d.Code)
		}
		d.Level, d.Parent = place(d.Code)
		for i, v := range []*int32{&d.LongitudeE6, &d.LatitudeE6} {
			if row[2+i] == "" {
				continue
			}
			n, err := strconv.ParseInt(row[2+i], 10, 32)
			if err != nil {
				return t, fmt.Errorf("division %s: %w", d.Code, err)
			}
			*v = int32(n)
		}
		for i, v := range []*time.Time{&d.ValidFrom, &d.ValidTo} {
			if row[4+i] == "" {
				continue
			}
			if *v, err = time.ParseInLocation(time.DateOnly, row[4+i], shanghai); err != nil {
				return t, fmt.Errorf("division %s: %w", d.Code, err)
			}
		}
		t.all = append(t.all, d)
		t.byCode[d.Code] = d
	}
	return t, nil
}

// place reads level and parent from a code: its last pair of digits that is not 00 is its own, the rest its parent's.
func place(code string) (Level, string) {
	switch {
	case code[2:] == "0000":
		return LevelProvince, ""
	case code[4:] == "00":
		return LevelCity, code[:2] + "0000"
	default:
		return LevelCounty, code[:4] + "00"
	}
}
