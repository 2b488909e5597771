package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"

	"dengbei/chunkstore/digest"
	"dengbei/registry/intake"
)

// demoCases are the administrative cases (政务服务办件) made for the demonstration: four that the auto-approval policy may accept, and three that
// an officer must look at.
type demoCases struct {
	held      *demoDelivery // accepted by an officer's account
	returned  *demoDelivery // an item is missing: returned for correction
	corrected *demoDelivery // the same with the item
	refused   *demoDelivery // not this authority's business
	digests   []digest.Digest
	during    *arrivals
	made      int
}

func (c demoCases) count() int { return c.made }

// What the auto-approval policy leaves to an officer: the batch of this name. The metadata say the same for people.
const (
	manualBatch = "人工办理"
	manualName  = "办理方式"
	manualValue = "人工"
)

// caseSpec is one case to generate.
type caseSpec struct {
	registrant int
	number     string // 办件编号
	matter     string // 事项名称
	manual     bool
	complete   bool // with its licence (电子证照)
}

func (d *demo) generateCases() error {
	auto := []caseSpec{
		{0, "330102-2026-000017", "公共场所卫生许可（新办）", false, true},
		{1, "330282-2026-000108", "建设工程规划许可证核发", false, true},
		{2, "330100-2026-000231", "公共数据授权运营·备案", false, true},
		{0, "330102-2026-000018", "户外广告设施设置审批〔延续〕", false, true},
	}
	for _, s := range auto {
		c, _, err := d.generateCase(s, s.number)
		if err != nil {
			return err
		}
		d.deliveries = append(d.deliveries, c)
	}
	var err error
	if d.cases.held, _, err = d.generateCase(caseSpec{0, "330102-2026-000019", "食品经营许可（跨区）", true, true}, "held"); err != nil {
		return err
	}
	incomplete := caseSpec{1, "330282-2026-000109", "国有建设用地使用权·首次登记", true, false}
	if d.cases.returned, _, err = d.generateCase(incomplete, "returned"); err != nil {
		return err
	}
	incomplete.complete = true
	if d.cases.corrected, _, err = d.generateCase(incomplete, "corrected"); err != nil {
		return err
	}
	d.cases.refused, d.cases.digests, err = d.generateCase(caseSpec{2, "330000-2026-000001", "省级权限事项（误投）", true, true}, "refused")
	return err
}

// generateCase writes a case's folder. Every file contains random digits, so no two cases share a byte range that would be stored once.
func (d *demo) generateCase(s caseSpec, folder string) (*demoDelivery, []digest.Digest, error) {
	r := d.input.registrants[s.registrant]
	dir := filepath.Join(d.dir, "cases", folder)
	licence, err := licencePicture()
	if err != nil {
		return nil, nil, err
	}
	text := func(title string) []byte {
		var mark [16]byte
		_, _ = rand.Read(mark[:]) // never fails
		return fmt.Appendf(nil, "%s\n\n办件编号：%s\n事项名称：%s\n受理单位：%s\n校验串：%s\n", title, s.number, s.matter, r.name, hex.EncodeToString(mark[:]))
	}
	files := map[string][]byte{
		"申请表·正本.txt":           text("申请表"),
		"受理通知书（盖章件）.txt":       text("受理通知书"),
		"审批结果/审批决定书〔2026〕.txt": text("审批决定书"),
		"审批结果/办理过程.xml":        fmt.Appendf(nil, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<办件 编号=%q>\n%s</办件>\n", s.number, text("办理过程")),
	}
	if s.complete {
		files["电子证照/电子证照·副本.png"] = licence
	}
	var sums []digest.Digest
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, nil, err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return nil, nil, err
		}
		sum, err := digest.FromBytes(digest.SHA256, sha256sum(content))
		if err != nil {
			return nil, nil, err
		}
		sums = append(sums, sum)
	}
	d.cases.made++
	c := &demoDelivery{registrant: r, delivery: delivery{
		folders: []string{dir}, titles: []string{"办件·" + s.matter}, class: classStandard, batch: s.number, opening: intake.OpeningControlled,
		metadata: []intake.Element{{Name: "办件编号", Value: s.number}, {Name: "事项名称", Value: s.matter}, {Name: manualName, Value: "网上办理"}},
	}}
	if s.manual {
		c.manual = true
		c.delivery.batch = manualBatch
		c.delivery.metadata[2].Value = manualValue
	}
	return c, sums, nil
}

func sha256sum(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

// licencePicture is a small PNG with random pixels in it.
func licencePicture() ([]byte, error) {
	img := image.NewRGBA(image.Rect(0, 0, 160, 100))
	noise := make([]byte, 160)
	_, _ = rand.Read(noise) // never fails
	for x := range 160 {
		for y := range 100 {
			img.Set(x, y, color.RGBA{R: 0xb0 + noise[x]%0x40, G: 0x20, B: 0x20, A: 0xff})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
