import Metrics
import Testing

@Suite struct ExpositionTests {
  static var families: [MetricFamily] {
    var gets = MetricFamily("x_gets_total", .counter, "Reads.")
    gets.add(3, ["cache": "user:{id}", "result": "hit"])
    var info = MetricFamily("x_build_info", .info, "What \"it\" is.\nReally \\.")
    info.add(1, ["version": "a\"b\\c\nd"])
    var took = MetricFamily("x_took_seconds", .histogram, "How long.")
    var histogram = Histogram(Histogram.Buckets([5000, 1_000_000_000]))
    histogram.observe(4000)
    histogram.observe(2_000_000_000)
    took.add(histogram, ["stage": "near"])
    return [gets, info, took, MetricFamily("x_empty", .gauge, "Nothing.", nil)]
  }

  @Test("Prometheus's text")
  func prometheus() {
    #expect(
      Exposition.prometheus.text(Self.families) == """
        # HELP x_gets_total Reads.
        # TYPE x_gets_total counter
        x_gets_total{cache="user:{id}",result="hit"} 3
        # HELP x_build_info What "it" is.\\nReally \\\\.
        # TYPE x_build_info gauge
        x_build_info{version="a\\"b\\\\c\\nd"} 1
        # HELP x_took_seconds How long.
        # TYPE x_took_seconds histogram
        x_took_seconds_bucket{stage="near",le="0.000005"} 1
        x_took_seconds_bucket{stage="near",le="1.0"} 1
        x_took_seconds_bucket{stage="near",le="+Inf"} 2
        x_took_seconds_sum{stage="near"} 2.000004
        x_took_seconds_count{stage="near"} 2

        """)
  }

  @Test("OpenMetrics names families without what their samples add, tells units and ends with a mark")
  func openMetrics() {
    let text = Exposition.openMetrics.text(Self.families)
    #expect(text.contains("# TYPE x_gets counter\nx_gets_total{"))
    #expect(text.contains("# HELP x_build What \\\"it\\\" is."))
    #expect(text.contains("# TYPE x_build info\nx_build_info{"))
    #expect(text.contains("# TYPE x_took_seconds histogram\n# UNIT x_took_seconds seconds\n"))
    #expect(text.hasSuffix("# EOF\n"))
  }

  @Test(
    "OpenMetrics is for those who ask for it",
    arguments: [
      ("", false), ("*/*", false), ("text/plain", false),
      ("application/openmetrics-text", true),
      ("application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", true),
      ("application/openmetrics-text;q=0.2, text/plain;q=0.5", false),
      ("application/openmetrics-text;q=0", false),
    ])
  func negotiation(_ accept: String, _ isOpen: Bool) {
    #expect((Exposition(accept: accept) == .openMetrics) == isOpen)
  }
}
