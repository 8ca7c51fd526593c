// The viewer of a page: two linked NiiVue canvases, scan and result, with the maps laid over both.
// Everything is in the page: NiiVue and the volumes lie in it as base64 of gzip.
"use strict";
(() => {
  const PLANES = { "three planes": 3, axial: 0, coronal: 1, sagittal: 2 };
  const ROW = 3, NEVER = 0, PAN = 3; // NiiVue's MULTIPLANAR_TYPE, SHOW_RENDER and DRAG_MODE
  const STARTED = new Map();

  const bytes = (id) => {
    const text = atob(document.getElementById(id).textContent.trim());
    const found = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
    return found;
  };

  const unpacked = (id) =>
    new Response(new Blob([bytes(id)]).stream().pipeThrough(new DecompressionStream("gzip")));

  let library = null;
  const niivue = () => {
    library ??= unpacked("niivue").text().then((code) => {
      const script = document.createElement("script");
      script.textContent = code;
      document.head.append(script);
      return window.niivue;
    });
    return library;
  };

  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  const times = (matrix, [x, y, z]) =>
    matrix.slice(0, 3).map((row) => row[0] * x + row[1] * y + row[2] * z + row[3]);

  // NiiVue counts voxels along R, A and S; permRAS names the file's axis of each, below 0 if turned.
  const turned = (volume, voxel) => volume.permRAS.map((signed) => {
    const axis = Math.abs(signed) - 1;
    return signed > 0 ? voxel[axis] : volume.hdr.dims[axis + 1] - 1 - voxel[axis];
  });

  const turnedBack = (volume, at) => {
    const voxel = [0, 0, 0];
    volume.permRAS.forEach((signed, number) => {
      const axis = Math.abs(signed) - 1;
      voxel[axis] = signed > 0 ? at[number] : volume.hdr.dims[axis + 1] - 1 - at[number];
    });
    return voxel;
  };

  const short = (value) => String(Number(value.toPrecision(6)));

  async function image(volume, id) {
    const { NVImage } = await niivue();
    const buffer = await unpacked(id).arrayBuffer();
    const [low, high] = volume.window;
    const map = volume.role === "map";
    const made = await NVImage.new(
      buffer, `${volume.role}.nii`, map ? "inferno" : "gray", map ? 0 : 1, null, low, high); // maps are laid over later
    if (map) made.colormapType = 1; // below the lower limit the map is transparent
    return made;
  }

  // Low and high of a window as two numbers and two sliders: level and width.
  function windowControl(title, volume, changed) {
    const [least, most] = volume.limits;
    const step = Math.max((most - least) / 1000, volume.step || 0) || 1;
    const slider = (title) => element("input", { type: "range", title });
    const level = slider("level"), width = slider("width");
    Object.assign(level, { min: least, max: most, step });
    Object.assign(width, { min: step, max: Math.max(most - least, step), step });
    const number = (title) => element("input", { type: "number", step: "any", title });
    const low = number("black"), high = number("white");
    const show = (from, to) => {
      [low.value, high.value] = [short(from), short(to)];
      [level.value, width.value] = [(from + to) / 2, to - from];
      changed(from, to);
    };
    const slid = () => show(+level.value - width.value / 2, +level.value + width.value / 2);
    const typed = () => +high.value > +low.value && show(+low.value, +high.value);
    for (const one of [level, width]) one.addEventListener("input", slid);
    for (const one of [low, high]) one.addEventListener("change", typed);
    const reset = () => show(...volume.window);
    const control = element("fieldset", {}, element("legend", { textContent: title }),
      low, "to", high, level, width);
    return { control, reset };
  }

  class Viewer {
    constructor(section) {
      this.section = section;
      this.content = JSON.parse(section.querySelector(".viewer-content").textContent);
      this.volumes = this.content.volumes;
      this.maps = this.volumes.filter((one) => one.role === "map");
      this.changed = new Set();
      this.map = 0;
      this.opacity = this.maps.length ? 0.5 : 0;
    }

    async start() {
      const { Niivue } = await niivue();
      const { section, content } = this;
      this.panels = element("div", { className: "panels" });
      this.readout = element("output", { textContent: "loading …" });
      section.replaceChildren(...section.querySelectorAll("script"), this.panels, this.readout);
      this.views = [];
      for (const [number, volume] of this.volumes.slice(0, 2).entries()) {
        const canvas = element("canvas", { tabIndex: 0, ariaLabel: volume.name });
        const made = volume.role === "result" ? " made" : "";
        this.panels.append(element("div", { className: `panel${made}` },
          element("span", { textContent: volume.name }), canvas));
        const view = new Niivue({
          backColor: [0, 0, 0, 1], crosshairColor: [0.35, 0.65, 1, 0.8], crosshairWidth: 0.25,
          crosshairWidthUnit: "percent",
          isRadiologicalConvention: true, sagittalNoseLeft: true, dragAndDropEnabled: false,
          multiplanarLayout: ROW, multiplanarShowRender: NEVER, dragMode: PAN, show3Dcrosshair: false,
          isNearestInterpolation: false, loadingText: "", logLevel: "error", textHeight: -1,
          fontMinPx: 11, isForceMouseClickToVoxelCenters: true, viewModeHotKey: "", clipPlaneHotKey: "",
          cycleClipPlaneHotKey: "",
        });
        await view.attachToCanvas(canvas, true);
        view.addVolume(await image(volume, `${content.id}-${number}`));
        for (const map of this.maps) {
          view.addVolume(await image(map, `${content.id}-${this.volumes.indexOf(map)}`));
        }
        view.setSliceType(this.sliceType = PLANES["three planes"]);
        view.onLocationChange = () => this.located(view);
        this.views.push(view);
      }
      for (const view of this.views) {
        view.broadcastTo(this.views.filter((other) => other !== view), { zoomPan: true });
      }
      section.prepend(...this.bars());
      section.append(element("p", { className: "help", textContent: content.note }));
      for (const one of this.resets) one();
      this.jump((content.places[0] ?? { voxel: content.center }).voxel);
      section.dataset.ready = "true";
    }

    bars() {
      const planes = element("select", { title: "planes" });
      for (const name of Object.keys(PLANES)) planes.append(element("option", { textContent: name }));
      planes.addEventListener("change", () => this.show(PLANES[planes.value]));
      const smooth = element("input", { type: "checkbox", checked: true });
      smooth.addEventListener("change", () =>
        this.views.forEach((view) => view.setInterpolation(!smooth.checked)));
      const full = element("button", { type: "button", textContent: "Full screen" });
      full.addEventListener("click", () =>
        document.fullscreenElement ? document.exitFullscreen() : this.section.requestFullscreen());
      const reset = element("button", { type: "button", textContent: "Reset" });
      reset.addEventListener("click", () => this.reset());
      const top = element("div", { className: "bar" }, planes,
        element("label", {}, smooth, "smooth"), full, reset);
      if (this.content.places.length) top.append("Largest errors:");
      for (const place of this.content.places) {
        const button = element("button", { type: "button", textContent: place.name });
        button.addEventListener("click", () => this.jump(place.voxel));
        top.append(button);
      }
      this.resets = [];
      const windows = element("div", { className: "bar" });
      this.volumes.slice(0, 2).forEach((volume, number) => {
        const { control, reset } = windowControl(volume.name, volume, (low, high) =>
          this.setWindow(this.views[number], 0, low, high));
        windows.append(control);
        this.resets.push(reset);
      });
      return this.maps.length ? [top, windows, this.mapBar()] : [top, windows];
    }

    mapBar() {
      const bar = element("div", { className: "bar" });
      const opacity = element("input", { type: "range", min: 0, max: 1, step: 0.05,
        value: this.opacity, title: "opacity of the map" });
      opacity.addEventListener("input", () => this.lay(this.map, +opacity.value));
      const choice = element("select", { title: "map" });
      this.maps.forEach((map, at) =>
        choice.append(element("option", { textContent: map.name, value: at })));
      choice.addEventListener("change", () => this.lay(+choice.value, this.opacity));
      bar.append(choice, element("label", {}, "opacity", opacity));
      const controls = this.maps.map((map, at) => windowControl("shown from", map, (low, high) => {
        for (const view of this.views) this.setWindow(view, 1 + at, low, high);
      }));
      controls.forEach(({ control, reset }, at) => {
        control.hidden = at > 0;
        bar.append(control);
        this.resets.push(reset);
      });
      choice.addEventListener("change", () =>
        controls.forEach(({ control }, at) => { control.hidden = at !== this.map; }));
      const legend = element("canvas", { className: "legend", width: 256, height: 1 });
      const colors = this.views[0].colormap("inferno");
      const pixels = new ImageData(256, 1);
      pixels.data.set(colors);
      for (let i = 3; i < 1024; i += 4) pixels.data[i] = 255;
      legend.getContext("2d").putImageData(pixels, 0, 0);
      bar.append(legend);
      this.resets.push(() => { opacity.value = 0.5; this.lay(this.map, 0.5); });
      return bar;
    }

    setWindow(view, number, low, high) {
      Object.assign(view.volumes[number], { cal_min: low, cal_max: high });
      this.refresh(view);
    }

    // Bring changed volumes to the GPU, once a frame however fast a slider moves.
    refresh(view) {
      if (this.changed.size === 0) {
        requestAnimationFrame(() => {
          for (const one of this.changed) one.updateGLVolume();
          this.changed.clear();
        });
      }
      this.changed.add(view);
    }

    lay(map, opacity) {
      [this.map, this.opacity] = [map, opacity];
      for (const view of this.views) {
        this.maps.forEach((_, at) => { view.volumes[1 + at].opacity = at === map ? opacity : 0; });
        this.refresh(view);
      }
    }

    show(sliceType) {
      this.sliceType = sliceType;
      this.panels.classList.toggle("single", sliceType !== 3);
      for (const view of this.views) {
        view.setSliceType(sliceType);
        view.resizeListener();
      }
    }

    reset() {
      for (const view of this.views) view.setPan2Dxyzmm([0, 0, 0, 1]);
      for (const one of this.resets) one();
      for (const view of this.views) view.drawScene();
    }

    jump(voxel) {
      for (const view of this.views) {
        view.scene.crosshairPos = view.vox2frac(turned(view.volumes[0], voxel));
        view.drawScene();
        view.createOnLocationChange();
      }
    }

    located(view) {
      // NiiVue reports both views when one is clicked, the other one with where it was before.
      if (this.views.some((one) => one !== view && one.canvas.matches(":focus"))) return;
      const volumes = view.volumes;
      const at = Array.from(view.frac2vox(view.scene.crosshairPos), Math.round);
      const sources = this.views.map((one) => one.volumes[0]);
      this.values = [...sources, ...volumes.slice(1)].map((volume) => volume.getValue(...at));
      const voxel = turnedBack(volumes[0], at);
      this.voxel = voxel.map((one, axis) => this.content.stride[axis] * one);
      const mm = times(this.content.affine, voxel); // NiiVue's own leaves out an oblique rotation
      this.follow(view);
      const values = this.volumes.map((volume, at) => this.described(volume, this.values[at]));
      const place = mm.map((one) => one.toFixed(1)).join(", ");
      this.readout.textContent =
        `Voxel ${this.voxel.join(", ")} (RAS ${place} mm): ${values.join("; ")}`;
    }

    // Both views have one grid, so the crosshair is at one place of it.
    follow(view) {
      for (const other of this.views) {
        const place = Array.from(view.scene.crosshairPos);
        if (place.every((one, axis) => one === other.scene.crosshairPos[axis])) continue;
        other.scene.crosshairPos = place;
        other.drawScene();
      }
    }

    described(volume, value) {
      if (volume.role === "map" && value < 0) return `${volume.name}: not seen by the model`;
      return `${volume.name} ${short(value)} ${volume.units}`.trim();
    }
  }

  const start = (section) => {
    const viewer = new Viewer(section);
    STARTED.set(section, viewer);
    const failed = (error) => {
      section.append(element("p", { textContent: `The viewer cannot be shown: ${error.message ?? error}` }));
      console.error(error);
    };
    viewer.start().catch(failed);
  };

  const sections = document.querySelectorAll(".viewer");
  for (const section of sections) {
    if (sections.length === 1) start(section);
    else section.querySelector("button").addEventListener("click", () => start(section));
  }
  window.medtranslateViewers = STARTED; // for whoever looks at the page's state
})();
