package fournature

import "strings"

// Nature is one of the four natures, by the first digit of an item number.
type Nature string

// The natures, and the group of this system's own items.
const (
	Authenticity Nature = "authenticity" // 真实性
	Integrity    Nature = "integrity"    // 完整性
	Usability    Nature = "usability"    // 可用性
	Safety       Nature = "safety"       // 安全性
	Extra        Nature = "extra"        // not in DA/T 70
)

// Kind says who can give the result of an item.
type Kind string

// The kinds.
const (
	Automatic Kind = "automatic"
	External  Kind = "external" // needs an engine or service outside this program
	Manual    Kind = "manual"   // needs a person
)

// Result is the outcome of one item or, with Pending, of a whole report.
type Result string

// The results, as they stand in reports.
const (
	Pass    Result = "PASS"
	Warn    Result = "WARN"
	Fail    Result = "FAIL"
	Skip    Result = "SKIP"    // not applicable to this package
	Open    Result = "MANUAL"  // a person or an external service has to say
	Pending Result = "PENDING" // overall only: a blocking item is open
)

// Item is one row of a scheme.
type Item struct {
	ID       string // as in DA/T 70, without the link: "1-1a", "X-7"
	Nature   Nature
	Kind     Kind
	Blocking bool // an open result of this item keeps the report pending
	// Reason is empty for an item that this program checks. Otherwise it is the code of why it does not: an automatic
	// item is then listed as not run, the others as open.
	Reason string
}

// Name returns the item's name in lang ("zh-CN" or "en").
func (i Item) Name(lang string) string { return text(lang, "item."+i.ID, nil) }

// Scheme is the list of items for one link. Two schemes with the same link and version are the same.
type Scheme struct {
	Link    string // YJ 移交与接收
	Version string
	Items   []Item // in the order of the report
}

// Why an item is not run.
const (
	reasonNoChecker   = "no_checker"
	reasonNoScheme    = "no_metadata_scheme"
	reasonNoCatalogue = "no_catalogue"
	reasonNoMedium    = "no_medium"
	reasonNoEngine    = "no_engine"
	reasonPerson      = "needs_person"
)

// YJ returns the first scheme for transfer and receipt of an on-line delivery. External and manual items do not block
// in it: a centre that has a scanner or a desk for them makes its own version.
func YJ() Scheme {
	s := Scheme{Link: "YJ", Version: "1"}
	add := func(kind Kind, blocking bool, reason string, ids ...string) {
		for _, id := range ids {
			s.Items = append(s.Items, Item{ID: id, Nature: nature(id), Kind: kind, Blocking: blocking, Reason: reason})
		}
	}
	add(Automatic, true, "", "1-1a")
	add(External, false, reasonNoEngine, "1-1b", "1-1c")
	add(Automatic, false, reasonNoChecker, "1-1d")
	add(Automatic, false, reasonNoScheme, "1-2", "1-3", "1-4", "1-5")
	add(Automatic, false, reasonNoChecker, "1-6")
	add(Automatic, false, reasonNoScheme, "1-7")
	add(Automatic, false, reasonNoCatalogue, "1-8", "1-10", "1-11", "1-12", "1-13")
	add(Automatic, true, "", "1-14", "2-1", "2-2")
	add(Automatic, false, reasonNoScheme, "2-3", "2-4", "2-5")
	add(Automatic, false, reasonNoCatalogue, "2-6")
	add(Automatic, true, "", "2-7")
	add(Automatic, false, reasonNoScheme, "2-8", "2-9")
	add(Automatic, false, reasonNoCatalogue, "2-10", "2-11", "3-1")
	add(Automatic, true, "", "3-3")
	add(Automatic, false, "", "3-4")
	add(Automatic, false, reasonNoChecker, "3-7", "3-8")
	add(External, false, reasonNoEngine, "4-1", "4-2")
	add(Automatic, false, reasonNoMedium, "4-3", "4-4")
	add(Manual, false, reasonNoMedium, "4-5")
	add(External, false, reasonNoMedium, "4-6")
	add(Manual, false, reasonPerson, "4-7")
	add(Automatic, true, "", "X-1")
	add(Automatic, false, "", "X-2")
	add(Automatic, false, reasonNoChecker, "X-3", "X-4")
	add(Automatic, false, reasonNoScheme, "X-5")
	add(Automatic, false, reasonNoChecker, "X-6")
	add(Automatic, true, "", "X-7")
	return s
}

func nature(id string) Nature {
	switch {
	case strings.HasPrefix(id, "1-"):
		return Authenticity
	case strings.HasPrefix(id, "2-"):
		return Integrity
	case strings.HasPrefix(id, "3-"):
		return Usability
	case strings.HasPrefix(id, "4-"):
		return Safety
	default:
		return Extra
	}
}
