// Samples as they come, played without a gap.

const LEAD_S = 0.05; // before the first sample: less than a listener notices, more than a page is ever late

export class Player {
  /** @param {number} rate samples a second */
  constructor(rate) {
    this.rate = rate;
    this.context = new AudioContext({ sampleRate: rate });
    this.analyser = this.context.createAnalyser();
    this.analyser.connect(this.context.destination);
    this.sources = new Set();
    this.next = 0; // when the sound so far ends, by the context's clock
    this.underruns = 0;
  }

  /** @param {Float32Array} samples what follows */
  push(samples) {
    const buffer = this.context.createBuffer(1, samples.length, this.rate);
    buffer.copyToChannel(samples, 0);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.analyser);
    const now = this.context.currentTime;
    if (this.next < now) {
      this.underruns += this.next > 0;
      this.next = now + LEAD_S;
    }
    source.start(this.next);
    this.next += buffer.duration;
    this.sources.add(source);
    source.onended = () => this.sources.delete(source);
  }

  /** Resolves when all has been heard. */
  async finished() {
    while (this.context.state !== "closed" && this.next > this.context.currentTime) {
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  /** Silence, now. */
  async stop() {
    for (const source of this.sources) source.stop();
    if (this.context.state !== "closed") await this.context.close();
  }
}
