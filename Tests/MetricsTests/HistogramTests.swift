import Metrics
import Testing

@Suite struct HistogramTests {
  @Test("what is observed falls into the first bucket whose end it does not exceed")
  func buckets() {
    var histogram = Histogram(Histogram.Buckets([10, 20]))
    for value in [1, 10, 11, 20, 21, 1000] as [UInt64] { histogram.observe(value) }
    #expect(histogram.counts == [2, 2, 2])
    #expect(histogram.count == 6)
    #expect(histogram.sum == 1063)
  }

  @Test("two histograms add up")
  func sums() {
    var (a, b) = (Histogram(.delays), Histogram(.delays))
    a.observe(1_000_000)
    b.observe(90_000_000_000)
    a.add(b)
    #expect(a.counts.first == 1)
    #expect(a.counts.last == 1)
    #expect(a.sum == 90_001_000_000)
  }

  @Test("the buckets of the three kinds reach from and to where the names in the runbook say")
  func kinds() {
    #expect(Histogram.Buckets.commands.ends.first == 5000)
    #expect(Histogram.Buckets.commands.ends.last == 1_000_000_000)
    #expect(Histogram.Buckets.loads.ends.first == 500_000)
    #expect(Histogram.Buckets.loads.ends.last == 10_000_000_000)
    #expect(Histogram.Buckets.delays.ends.first == 1_000_000)
    #expect(Histogram.Buckets.delays.ends.last == 60_000_000_000)
  }
}
