import { defineConfig } from "vite";

// The gateway serves index.html at "/" and the rest under "/console/" (gateway/console/files.py).
export default defineConfig({
  base: "/console/",
  build: {
    outDir: "../gateway/console/built",
    emptyOutDir: true,
    target: "es2022",
    // As data: addresses they would be refused by the page's policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    // The packages in the bundle want their notices to come with it.
    license: { fileName: "licenses.md" },
  },
  server: { proxy: { "^/(v1|health|openapi)": "http://127.0.0.1:8001" } },
});
