// The tab that speaks: one request, its sound played, drawn and kept while it comes.

import { Player } from "./player.js";
import { drawWave } from "./drawing.js";

const RATE = 24000; // what pcm is sent at
const at = (id) => document.getElementById(id);

export function openSpeech(ask) {
  const canvas = at("wave");
  let current = null; // what Stop ends

  at("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    speak();
  });
  at("stop").addEventListener("click", () => current?.abort());

  async function listVoices() {
    try {
      const { voices } = await (await ask("v1/audio/voices")).json();
      at("voice").replaceChildren(...voices.map(({ id, name }) => new Option(name, id)));
    } catch (problem) {
      at("said").textContent = problem.message;
    }
  }

  function body(model) {
    const seed = at("seed").value;
    return JSON.stringify({
      model,
      input: at("text").value,
      voice: at("voice").value || undefined,
      speed: Number(at("speed").value),
      seed: seed === "" ? undefined : Number(seed),
      response_format: "pcm",
    });
  }

  async function speak() {
    current?.abort();
    const mine = (current = new AbortController());
    const player = new Player(RATE);
    const sound = []; // Float32Arrays
    mine.signal.addEventListener("abort", () => player.stop());
    busy(true);
    try {
      const { data } = await (await ask("v1/models", { signal: mine.signal })).json();
      const begin = performance.now();
      const answer = await ask("v1/audio/speech", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: body(data[0].id),
        signal: mine.signal,
      });
      for await (const samples of samplesOf(answer.body)) {
        if (!sound.length) at("first").textContent = `${Math.round(performance.now() - begin)} ms`;
        sound.push(samples);
        player.push(samples);
        show(sound, performance.now() - begin);
      }
      keep(sound);
      at("said").textContent = player.underruns ? `It ran dry ${player.underruns} times.` : "";
      await player.finished();
    } catch (problem) {
      at("said").textContent = problem.name === "AbortError" ? "Stopped." : problem.message;
      await player.stop();
    } finally {
      if (current === mine) {
        current = null;
        busy(false);
      }
    }
  }

  function show(sound, milliseconds) {
    const seconds = sound.reduce((sum, piece) => sum + piece.length, 0) / RATE;
    at("factor").textContent = (milliseconds / 1000 / seconds).toFixed(2);
    at("length").textContent = `${seconds.toFixed(1)} s`;
    drawWave(canvas, sound);
  }

  function busy(on) {
    at("stop").disabled = !on;
    if (!on) return;
    at("download").hidden = true;
    at("said").textContent = "";
    for (const id of ["first", "factor", "length"]) at(id).textContent = "–";
    drawWave(canvas, []);
  }

  function keep(sound) {
    const link = at("download");
    const file = wav(sound);
    URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(file);
    link.textContent = `Download (${Math.ceil(file.size / 1000)} kB)`;
    link.hidden = false;
  }

  return {
    /** A voice is served. */
    serve: listVoices,
  };
}

/** Little-endian 16-bit samples, however the bytes are cut, as Float32Arrays. */
async function* samplesOf(stream) {
  const reader = stream.getReader();
  let odd = new Uint8Array(0);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const bytes = new Uint8Array(odd.length + value.length);
      bytes.set(odd);
      bytes.set(value, odd.length);
      const count = bytes.length >> 1;
      odd = bytes.slice(2 * count);
      if (!count) continue;
      const view = new DataView(bytes.buffer, 0, 2 * count);
      yield Float32Array.from({ length: count }, (_, index) => view.getInt16(2 * index, true) / 32767);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** A WAV file, 16 bits, mono. */
function wav(sound) {
  const count = sound.reduce((sum, piece) => sum + piece.length, 0);
  const file = new DataView(new ArrayBuffer(44 + 2 * count));
  const text = (offset, letters) => [...letters].forEach((letter, index) => file.setUint8(offset + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  file.setUint32(4, 36 + 2 * count, true);
  text(8, "WAVEfmt ");
  [[16, 16, 4], [20, 1, 2], [22, 1, 2], [24, RATE, 4], [28, 2 * RATE, 4], [32, 2, 2], [34, 16, 2]].forEach(
    ([offset, value, size]) => (size === 4 ? file.setUint32(offset, value, true) : file.setUint16(offset, value, true)),
  );
  text(36, "data");
  file.setUint32(40, 2 * count, true);
  let offset = 44;
  for (const piece of sound) {
    for (const sample of piece) {
      file.setInt16(offset, Math.max(-1, Math.min(1, sample)) * 32767, true);
      offset += 2;
    }
  }
  return new Blob([file], { type: "audio/wav" });
}
