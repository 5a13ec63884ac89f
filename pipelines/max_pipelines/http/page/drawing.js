// Pictures on canvases, in the page's own colours.

const HIGHEST = 0.6; // of a sample, for the full height

function ready(canvas) {
  const scale = window.devicePixelRatio || 1;
  const { width } = canvas.getBoundingClientRect();
  const height = Number(canvas.getAttribute("height")) / (canvas.scale ?? 1);
  canvas.scale = scale;
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.round(height * scale);
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.strokeStyle = pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--mark") || "#06c";
  pen.strokeStyle = getComputedStyle(document.querySelector("button[type=submit]")).backgroundColor;
  return pen;
}

/** The sound so far over the whole width: the loudest sample of each column. */
export function drawWave(canvas, sound) {
  const pen = ready(canvas);
  const { width, height } = canvas;
  const total = sound.reduce((sum, piece) => sum + piece.length, 0);
  const peaks = new Float32Array(width);
  let index = 0;
  for (const piece of sound) {
    for (const sample of piece) {
      const column = Math.min(width - 1, Math.floor((index++ / total) * width));
      peaks[column] = Math.max(peaks[column], Math.abs(sample));
    }
  }
  pen.beginPath();
  peaks.forEach((peak, column) => {
    const half = Math.max(0.5, (Math.min(1, peak / HIGHEST) * height) / 2);
    pen.moveTo(column + 0.5, height / 2 - half);
    pen.lineTo(column + 0.5, height / 2 + half);
  });
  pen.stroke();
}

/** Some numbers over time, the latest at the right. */
export function drawLine(canvas, values, most) {
  const pen = ready(canvas);
  const { width, height } = canvas;
  const highest = Math.max(1, ...values);
  pen.lineWidth = 2;
  pen.beginPath();
  values.forEach((value, index) => {
    const x = width - ((values.length - 1 - index) / (most - 1)) * width;
    const y = height - 2 - (value / highest) * (height - 6);
    index ? pen.lineTo(x, y) : pen.moveTo(x, y);
  });
  pen.stroke();
}
